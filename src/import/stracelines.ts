/** Lines of strace's output: process, call, arguments and result, with calls that were interrupted put together again. */
export interface Call {
  /** 1-based line where the call ended. */
  readonly line: number;
  readonly text: string;
  readonly pid: string;
  readonly name: string;
  readonly args: readonly string[];
  /** As printed: "0", "0x7f…", "-1". */
  readonly result: string;
  /** `EINVAL`, "" if it succeeded. */
  readonly error: string;
}
export interface Other {
  readonly line: number;
  readonly text: string;
}

// A pid of -f, in either form, then a time of -t, -tt, -ttt or -r.
const HEAD = /^(?:\[pid +(\d+)\] |(\d+) +)?(?:\d\d:\d\d:\d\d(?:\.\d+)? |\d+\.\d+ | +\d+\.\d+ )?/;
const CALL = /^([a-z_0-9]+)\((.*)\) += (0x[0-9a-f]+|-?[0-9]+|\?)(?:<[^>]*>)?(?: ([A-Z]{2,}))?.*$/;
const UNFINISHED = /^([a-z_0-9]+\(.*) <unfinished \.\.\.>$/;
const RESUMED = /^<\.\.\. ([a-z_0-9]+) resumed>(.*)$/;
/** strace's own remarks: signals, exits, attached processes. */
const REMARK = /^(?:\+\+\+ |--- |strace: )/;

/** Arguments at the commas outside brackets and strings. */
function split(text: string): string[] {
  const out: string[] = [];
  let depth = 0;
  let quoted = false;
  let from = 0;
  for (let i = 0; i < text.length; i++) {
    const c = text[i]!;
    if (quoted) {
      if (c === "\\") i++;
      else if (c === '"') quoted = false;
    } else if (c === '"') quoted = true;
    else if ("{[(<".includes(c)) depth++;
    else if ("}])>".includes(c)) depth--;
    else if (c === "," && depth === 0) {
      out.push(text.slice(from, i).trim());
      from = i + 1;
    }
  }
  const last = text.slice(from).trim();
  return last === "" && out.length === 0 ? out : [...out, last];
}

/** Calls in the order in which they ended, and the lines that are neither a call nor a remark of strace. */
export function readStrace(source: string): { calls: Call[]; others: Other[]; lines: number } {
  const calls: Call[] = [];
  const others: Other[] = [];
  const waiting = new Map<string, string>();
  const lines = source.split(/\r?\n/);
  if (lines.at(-1) === "") lines.pop();
  lines.forEach((text, i) => {
    const line = i + 1;
    const head = HEAD.exec(text)!;
    const pid = head[1] ?? head[2] ?? "";
    let body = text.slice(head[0].length);
    if (body.trim() === "" || REMARK.test(body)) return;
    const stopped = UNFINISHED.exec(body);
    if (stopped !== null) {
      waiting.set(pid, stopped[1]!);
      return;
    }
    const resumed = RESUMED.exec(body);
    if (resumed !== null) {
      const before = waiting.get(pid);
      waiting.delete(pid);
      if (before?.startsWith(`${resumed[1]!}(`) !== true) {
        others.push({ line, text });
        return;
      }
      body = `${before}${resumed[2]!}`;
    }
    const m = CALL.exec(body);
    if (m === null) others.push({ line, text });
    else calls.push({ line, text, pid, name: m[1]!, args: split(m[2]!), result: m[3]!, error: m[4] ?? "" });
  });
  return { calls, others, lines: lines.length };
}

/** `0x1000`, `4096`, `2<anon_inode:kvm-vm>`, `NULL`. NaN if it is no number of at most 53 bits. */
export function numberOf(text: string | undefined): number {
  const t = (text ?? "").replace(/<.*$/, "");
  if (t === "NULL") return 0;
  const n = /^-?(?:0x[0-9a-f]+|[0-9]+)$/i.test(t) ? Number(t) : NaN;
  return Number.isSafeInteger(n) ? n : NaN;
}
