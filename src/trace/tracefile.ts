/**
 * A file that a run writes while it goes: under a temporary name next to it, renamed when it is complete,
 * so that nobody ever reads half a trace. Writes are synchronous: a run does not come back to the event loop.
 */
import { closeSync, openSync, readSync, realpathSync, renameSync, rmSync, statSync, writeSync } from "node:fs";

const COPY_BYTES = 1 << 20;

/**
 * The file that a path to write names, behind symbolic links.
 * @throws Error for `-`, and where a folder, device, pipe or socket is: the rename at the end would put a file in its place
 */
export function fileToWrite(path: string): string {
  if (path === "-") throw new Error("it takes the name of a file, not standard output");
  const there = statSync(path, { throwIfNoEntry: false });
  if (there === undefined) return path;
  if (there.isDirectory()) throw Object.assign(new Error(`EISDIR: ${path} is a directory`), { code: "EISDIR" });
  if (!there.isFile()) throw new Error("it is a device, a pipe or a socket; name a file");
  return realpathSync(path);
}

export class TraceFile {
  private readonly target: string;
  private readonly temporary: string;
  private readonly fd: number;
  private parts: string[] = [];
  length = 0;

  /** @throws Error of the file system if the folder is not there or not writable, or the path is no file: before anything is written */
  constructor(readonly path: string) {
    this.target = fileToWrite(path);
    this.temporary = `${this.target}.${process.pid}.tmp`;
    this.fd = openSync(this.temporary, "w");
  }

  /** A second file beside it, for a part whose place is not known yet. */
  part(name: string): { readonly path: string; readonly fd: number } {
    const path = `${this.target}.${process.pid}.${name}.tmp`;
    const fd = openSync(path, "w+");
    this.parts.push(path);
    return { path, fd };
  }

  write(bytes: Uint8Array, length = bytes.length): void {
    writeAll(this.fd, bytes, length);
    this.length += length;
  }

  /** Appends the whole of a part. */
  append(part: { readonly fd: number }): void {
    const buffer = new Uint8Array(COPY_BYTES);
    for (let at = 0; ;) {
      const n = readSync(part.fd, buffer, 0, COPY_BYTES, at);
      if (n === 0) break;
      this.write(buffer, n);
      at += n;
    }
    closeSync(part.fd);
  }

  /** The file is complete: it gets its name. */
  commit(): void {
    closeSync(this.fd);
    renameSync(this.temporary, this.target);
    for (const p of this.parts) rmSync(p, { force: true });
  }

  /** The run failed: nothing is left. */
  abandon(): void {
    try {
      closeSync(this.fd);
    } catch {
      // Closed already: the rename failed.
    }
    for (const p of [this.temporary, ...this.parts]) rmSync(p, { force: true });
  }
}

export function writeAll(fd: number, bytes: Uint8Array, length: number): void {
  for (let at = 0; at < length;) at += writeSync(fd, bytes, at, length - at);
}
