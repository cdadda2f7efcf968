/**
 * A campaign on disk: `campaign.json` says what it is, `results.jsonl` has a line for each unit that was done, in the order in
 * which they were finished. A line is written in one piece; one without its end (the machine stopped there) is as if it
 * were not there. Since results are merged in the order of the units, reading the journal again gives the very state.
 */
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { FaultlineError } from "../sim/errors.js";

export class Journal {
  private constructor(
    private readonly file: number,
    /** Results of an earlier sitting: unit -> JSON. */
    readonly done: ReadonlyMap<number, string>,
  ) {}

  /**
   * Begins a campaign in this folder, or goes on with the one that is there.
   * @throws FaultlineError if one is there and `resume` is not asked for, or if it is another one
   */
  static open(folder: string, kind: string, spec: unknown, resume: boolean): Journal {
    const head = join(folder, "campaign.json");
    const results = join(folder, "results.jsonl");
    const mine = JSON.stringify({ kind, spec }, undefined, 2);
    let done = new Map<number, string>();
    if (existsSync(head)) {
      if (!resume)
        throw new FaultlineError(`${folder} holds a campaign already: --resume goes on with it, another folder begins a new one`);
      if (readFileSync(head, "utf8").trimEnd() !== mine)
        throw new FaultlineError(`${head} is of a campaign with other options: --resume takes the same options`);
      done = readResults(results);
    } else {
      mkdirSync(folder, { recursive: true });
      writeFileSync(results, "");
      writeFileSync(`${head}.tmp`, `${mine}\n`);
      renameSync(`${head}.tmp`, head);
    }
    return new Journal(openSync(results, "a"), done);
  }

  /** The specification of the campaign in this folder; undefined if there is none. */
  static spec(folder: string): unknown {
    const head = join(folder, "campaign.json");
    if (!existsSync(head)) return undefined;
    try {
      return (JSON.parse(readFileSync(head, "utf8")) as { spec: unknown }).spec;
    } catch (e) {
      throw new FaultlineError(`${head} says no campaign: ${(e as Error).message}`);
    }
  }
  /** Takes a completed campaign away, so that the folder can have another. */
  static remove(folder: string): void {
    for (const name of ["campaign.json", "results.jsonl"]) rmSync(join(folder, name), { force: true });
  }

  add(unit: number, result: string): void {
    writeSync(this.file, `${unit} ${result}\n`);
  }

  close(): void {
    fsyncSync(this.file);
    closeSync(this.file);
  }
}

/** Whole lines only; what follows the last of them is cut off. */
function readResults(path: string): Map<number, string> {
  const done = new Map<number, string>();
  if (!existsSync(path)) return done;
  const text = readFileSync(path, "utf8");
  const end = text.lastIndexOf("\n") + 1;
  if (end < text.length) truncateSync(path, Buffer.byteLength(text.slice(0, end)));
  for (const line of text.slice(0, end).split("\n")) {
    const at = line.indexOf(" ");
    if (at > 0) done.set(Number(line.slice(0, at)), line.slice(at + 1));
  }
  return done;
}
