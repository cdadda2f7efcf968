/** The steps of a random scenario: each one or a few commands that belong together. */
import type { Rng } from "../rng.js";

export const PAGE = 0x1000;
export const BLOCK = 0x200000;
/** No slot is here: the VMM answers. */
const UNBACKED = 0x20000000;
/** `ret; ret`: what `br` finds where the guest stored it. */
const RETURNS = "0xd65f03c0d65f03c0";

const LOADS = "ldr64 ldr32 ldr16 ldr8 ldrsb ldrsb32 ldrsh ldrsw ldar ldxr ldp ldr_post ldr_pre ldrq ldrd ldxz prfm ats1r".split(" ");
const STORES = "str64 str32 str16 str8 strz stlr stxr stp str_post str_pre strq strd ldadd swp cas ldxrstxr zva".split(" ");
/** Accesses that the VMM answers, and two without a syndrome. */
const ANSWERED = "ldr64 ldr32 ldr16 ldr8 ldrsb ldrsb32 ldrsh ldrsw ldxz str64 str32 str16 str8 strz ldr_post stp".split(" ");
const CACHE = "cvac civac ivac cvau icivau".split(" ");
/** MADV_HUGEPAGE only where the kind has asked for huge pages anyway. */
const ADVICE = "dontneed dontneed populate_w populate_r nohugepage collapse dontfork dofork wipeonfork keeponfork willneed".split(" ");
/** Not of files, nor pageout: it throws away clean pages of files, and those that were freed before, which the model does not follow. */
const ADVICE_ANONYMOUS = [...ADVICE, ..."cold cold free free".split(" ")];

export const hex = (v: number): string => `0x${v.toString(16)}`;

/** What the steps of one scenario have in common. */
export interface Scene {
  readonly rng: Rng;
  readonly kind: string;
  readonly bar: boolean;
  /** The slot that most accesses go to: where, how large, what of backing V. */
  gpa: number;
  readonly size: number;
  readonly offset: number;
  /** The slot's flags as they were set up. */
  readonly flags: string;
  /** A second slot's address, or 0. */
  readonly other: number;
  forked: boolean;
}

const page = (s: Scene): number => PAGE * s.rng.below(Math.min(4, s.size / PAGE));
const number = (s: Scene): string => hex(s.rng.word());
const slotGpa = (s: Scene): number => (s.other !== 0 && s.rng.once(4) ? s.other : s.gpa);
const within = (s: Scene): string => hex(slotGpa(s) + page(s) + 16 * s.rng.below(64));
const anywhere = (s: Scene): string => (s.rng.once(9) ? hex(UNBACKED + 16 * s.rng.below(64)) : within(s));

/** Part of the backing near what the guest touches, in whole huge pages where the kind asks for them. */
function range(s: Scene): string {
  const { rng, offset } = s;
  if (s.kind === "hugetlb") return `V ${hex(rng.pick([0, BLOCK]))} ${hex(BLOCK)}`;
  if (rng.once(6)) return `V ${hex(offset - (offset % BLOCK))} ${hex(BLOCK)}`;
  return `V ${hex(offset + page(s))} ${hex(PAGE * (1 + rng.below(3)))}`;
}
const isFile = (s: Scene): boolean => s.kind === "memfd" || s.kind === "gmem";
/** Holes and new pages in a guest_memfd, with an access between. */
function holes(s: Scene): readonly string[] {
  const one = (): string => {
    const mode = s.rng.pick(["remove", "1", "3"]);
    const [, from, length] = range(s).split(" ");
    return mode === "remove" ? `madvise V ${from!} ${length!} remove` : `fallocate V ${mode} ${from!} ${length!}`;
  };
  return Array.from({ length: 1 + s.rng.below(3) }, () => [one(), ...(s.rng.once(2) ? [access(s)] : [])]).flat();
}
const access = (s: Scene): string => `op ${s.rng.pick(["ldr64", "str64"])} ${hex(slotGpa(s) + page(s))} 1`;

const STEPS: Readonly<Record<string, { readonly weight: number; readonly lines: (s: Scene) => readonly string[] }>> = {
  load: { weight: 16, lines: (s) => [`op ${s.rng.pick(LOADS)} ${anywhere(s)}`] },
  store: { weight: 16, lines: (s) => [`op ${s.rng.pick(STORES)} ${anywhere(s)} ${number(s)} ${number(s)}`] },
  execute: {
    weight: 4,
    lines: (s) => {
      const to = hex(slotGpa(s) + page(s));
      return s.rng.once(4) ? [`op br ${to}`] : [`op str64 ${to} ${RETURNS}`, `op br ${to}`];
    },
  },
  cache: { weight: 3, lines: (s) => [`op ${s.rng.pick(CACHE)} ${within(s)}`] },
  touch: {
    weight: 2,
    lines: (s) => [`op ${s.rng.pick(["touchw", "touchr"])} ${hex(s.gpa)} ${Math.min(16, s.size / PAGE)} ${PAGE}`],
  },
  munmap: {
    weight: 4,
    lines: (s) => {
      const where = range(s);
      return [`munmap ${where}`, ...(s.rng.once(2) ? [access(s)] : []), `remap ${where}`, ...(s.rng.once(2) ? ["resume"] : [])];
    },
  },
  replace: { weight: 1, lines: (s) => (s.kind === "hugetlb" ? [] : [`mapanon ${range(s)} ${s.rng.below(256)}`]) },
  protect: {
    weight: 4,
    lines: (s) => {
      const where = range(s);
      return [`mprotect ${where} ${s.rng.pick(["r", "-"])}`, access(s), `mprotect ${where} rw`];
    },
  },
  advise: {
    weight: 5,
    lines: (s) => {
      const own = s.kind === "thp" ? "hugepage" : s.kind === "nohuge" ? "free" : "dontneed";
      const anonymous = s.kind === "thp" || s.kind === "nohuge" || s.kind === "anon";
      return [`madvise ${range(s)} ${s.rng.once(6) ? own : s.rng.pick(anonymous ? ADVICE_ANONYMOUS : ADVICE)}`];
    },
  },
  slotflags: { weight: 2, lines: (s) => (s.flags.includes("ro") ? [] : [`slotflags 1 ${s.rng.pick(["log", "-"])}`]) },
  move: {
    weight: 1,
    lines: (s) => {
      if (s.rng.once(2)) return ["slotdel 1", access(s), slotLine(1, s.gpa, s)];
      const to = s.gpa >= 0xa0000000 ? s.gpa - 0x20000000 : s.gpa + 0x20000000;
      // A slot of a guest_memfd stays where it is.
      const first = s.kind === "gmem" ? [slotLine(1, to, s), "slotdel 1"] : [];
      s.gpa = to;
      return [...first, slotLine(1, to, s)];
    },
  },
  dirty: { weight: 2, lines: () => ["dirty 1"] },
  cleardirty: { weight: 1, lines: (s) => ["dirty 1", `cleardirty 1 0 ${Math.min(64, s.size / PAGE)}`] },
  host: {
    weight: 4,
    lines: (s) => {
      const at = `V ${hex(s.offset + page(s) + 8)}`;
      return [s.rng.once(2) ? `hr ${at}` : `hw ${at} ${number(s)}`];
    },
  },
  fork: {
    weight: 1,
    lines: (s) => {
      s.forked = !s.forked;
      return [s.forked ? "fork" : "forkend"];
    },
  },
  truncate: {
    weight: 1,
    lines: (s) => (isFile(s) ? [`ftruncate V ${hex(s.offset + page(s))}`, access(s), `ftruncate V ${hex(4 * BLOCK)}`] : []),
  },
  mmio: {
    weight: 2,
    lines: (s) => {
      const at = s.flags.includes("ro") && s.rng.once(2) ? within(s) : hex(UNBACKED + 16 * s.rng.below(64));
      const between = Array.from({ length: 1 + s.rng.below(4) }, () => s.rng.pick(["immediate", "immediate", "events 1"]));
      return ["leave 1", `op ${s.rng.pick(ANSWERED)} ${at} ${number(s)}`, ...between, ...(s.rng.once(2) ? ["resume"] : []), "leave 0"];
    },
  },
  // Neither of hugetlb nor of the zero page: what is broken stays so in the later scenarios of the boot.
  poison: {
    weight: 1,
    lines: (s) => {
      const at = s.offset + page(s);
      return s.bar || s.kind === "hugetlb" ? [] : [`hw V ${hex(at)} ${number(s)}`, `madvise V ${hex(at)} ${hex(PAGE)} hwpoison`, access(s)];
    },
  },
  // Of 2 MiB as a whole: what a smaller hole leaves of a huge page the model does not follow since v6.15. A guest_memfd has none.
  hole: {
    weight: 1,
    lines: (s) => {
      if (s.kind === "gmem") return holes(s);
      return s.kind === "memfd"
        ? [`madvise V ${hex(s.offset - (s.offset % BLOCK))} ${hex(BLOCK)} remove`, ...(s.rng.once(2) ? [access(s)] : [])]
        : [];
    },
  },
  // From the middle of 2 MiB into the next.
  middle: {
    weight: 1,
    lines: (s) => {
      if (s.kind === "hugetlb") return [];
      const where = `V ${hex(s.offset + BLOCK / 2)} ${hex(BLOCK / 2 + PAGE * (1 + s.rng.below(3)))}`;
      return s.rng.once(3) ? [`munmap ${where}`, `remap ${where}`] : [`madvise ${where} ${s.bar ? "willneed" : "dontneed"}`];
    },
  },
  memory: { weight: 2, lines: (s) => (s.bar ? ["vfio mem 0", ...(s.rng.once(2) ? [access(s)] : []), "vfio mem 1"] : []) },
};
const WEIGHTS = Object.fromEntries(Object.entries(STEPS).map(([name, { weight }]) => [name, weight]));

export const slotLine = (id: number, gpa: number, s: Scene): string =>
  `slot ${id} ${hex(gpa)} ${hex(s.size)} V ${hex(s.offset)} ${id === 1 ? s.flags : "-"}`;

export const randomStep = (s: Scene): readonly string[] => STEPS[s.rng.weighted(WEIGHTS)]!.lines(s);
