/** Texts made hostile: bytes changed at random, and changes that know what a line, a word, a number and a block are. */
import type { Rng } from "./rng.js";

const NUMBERS = [
  "0", "1", "-1", "7", "4095", "4096", "4097", "0x1fffff", "2M", "0x7fffffff", "0x80000000", "0xffffffff", "4G", "0x10000000000", "0xffffffffff000",
  "0x1fffffffffffff", "0x20000000000000", "0x7fffffffffffffff", "0x8000000000000000", "0xffffffffffffffff", "99999999999999999999", "1e9", "0b1", "0x", "64K",
] as const; // prettier-ignore
const WORDS = [
  "guest", "vmm", "par", "for", "let", "expect", "on", "machine", "variant", "{", "}", "(", ")", "[", "]", ";", ",", "\"", "..", "=", "->", "//", "\\", "%", "é", "\u0000",
  "mmap", "munmap", "KVM_RUN", "KVM_CREATE_VM", "KVM_SET_USER_MEMORY_REGION", "x0", "vcpu7", "exception", "livelock", "ret", "fork()", "bar2", "step", "set",
  "op", "back", "slot", "touchw", "mapanon", "hugetlb", "> vm", "= done", "~ fault", "vfio", "s2dump",
] as const; // prettier-ignore
const WORD = /[A-Za-z_][\w-]*|0x[0-9a-fA-F]+|[0-9]+[KMGT]?|"[^"\n]*"|[^\s\w]/g;

export function mutateText(rng: Rng, text: string, other: string): string {
  let out = text;
  const times = 1 + rng.below(4);
  for (let n = 0; n < times; n++) out = once(rng, out, other);
  return out.slice(0, 200_000);
}

function once(rng: Rng, text: string, other: string): string {
  const lines = text.split("\n");
  const line = rng.below(lines.length);
  switch (rng.below(12)) {
    case 0:
      lines.splice(line, 1 + rng.below(3));
      return lines.join("\n");
    case 1:
      lines.splice(rng.below(lines.length + 1), 0, ...lines.slice(line, line + 1 + rng.below(4)));
      return lines.join("\n");
    case 2: {
      const more = other.split("\n");
      lines.splice(line, rng.below(3), ...more.slice(rng.below(more.length)).slice(0, 1 + rng.below(6)));
      return lines.join("\n");
    }
    case 3: {
      const to = rng.below(lines.length);
      [lines[line], lines[to]] = [lines[to]!, lines[line]!];
      return lines.join("\n");
    }
    case 4:
    case 5:
    case 6:
      lines[line] = words(rng, lines[line]!);
      return lines.join("\n");
    case 7: {
      // A block around lines, or nested deep.
      const depth = rng.once(6) ? 40 : 1;
      lines.splice(
        line,
        0,
        ...Array.from({ length: depth }, () => rng.pick(["vmm {", "for i in 0..1000000 {", "par {", "on v5.4 {", "guest {", "("])),
      );
      if (rng.once(2)) lines.splice(line + depth + rng.below(4), 0, ..."}".repeat(depth));
      return lines.join("\n");
    }
    case 8: {
      const at = rng.below(text.length + 1);
      return text.slice(0, at) + String.fromCharCode(rng.below(rng.once(4) ? 0x800 : 128)) + text.slice(at + rng.below(2));
    }
    case 9: {
      const at = rng.below(text.length + 1);
      return text.slice(0, at) + text.slice(at + rng.below(200));
    }
    case 10: {
      const at = rng.below(text.length + 1);
      const from = rng.below(text.length + 1);
      return text.slice(0, at) + text.slice(from, from + rng.below(400)) + text.slice(at);
    }
    default:
      return text.slice(0, rng.below(text.length + 1));
  }
}

/** One word of a line: another number, another word, doubled, gone. */
function words(rng: Rng, line: string): string {
  const found = [...line.matchAll(WORD)];
  if (found.length === 0) return rng.pick(WORDS);
  const m = rng.pick(found);
  const to =
    /^[0-9]/.test(m[0]) && !rng.once(5)
      ? rng.pick(NUMBERS)
      : rng.pick([rng.pick(WORDS), rng.pick(NUMBERS), "", `${m[0]}${m[0]}`, `${m[0]} ${m[0]}`]);
  return line.slice(0, m.index) + to + line.slice(m.index + m[0].length);
}

/** Bytes changed without any sense. */
export function mutateBytes(rng: Rng, bytes: Uint8Array): Uint8Array {
  const out = Uint8Array.from(bytes);
  const times = 1 + rng.below(6);
  for (let n = 0; n < times && out.length > 0; n++) out[rng.below(out.length)] = rng.below(256);
  return rng.once(4) ? out.subarray(0, rng.below(out.length + 1)) : out;
}
