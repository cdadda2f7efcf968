/**
 * guest_memfd_test: what a guest_memfd's file does, without flags, mappable, and shared with the host from the start; and a guest
 * whose memory is one. Not asked: NUMA policies, read(2), write(2) and fstat(2) of the file.
 */
import { KVM_CAP_GUEST_MEMFD, KVM_CAP_GUEST_MEMFD_FLAGS } from "../kvm/caps.js";
import { KVM_MEM_GUEST_MEMFD } from "../kvm/ports.js";
import { GUEST_MEMFD_FLAG_INIT_SHARED, GUEST_MEMFD_FLAG_MMAP } from "../mmu/guestmemfd.js";
import { MADV_COLLAPSE, MADV_DONTNEED, MADV_HUGEPAGE } from "../mmu/madvise.js";
import { FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE } from "../mmu/truncate.js";
import { MAP_PRIVATE, MAP_SHARED, PROT_READ, PROT_WRITE } from "../mmu/vmflags.js";
import { said } from "./guestops.js";
import { BLOCK, GuestVm, PAGE, PROGRAM } from "./guestvm.js";
import { answer, needs, type Case, type Checks, type Selftest, type SelftestOptions } from "./report.js";

const RW = PROT_READ | PROT_WRITE;
const PUNCH_HOLE = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE;
const BUS_ADRERR = 2;
/** The files under test have four pages. */
const SIZE = 4 * PAGE;
const FILLED = 0xaaaaaaaaaaaaaaaan;
const ONES = 0xffffffffffffffffn;
/** Flags are 64 bits; so many of them a number holds. */
const FLAG_BITS = 53;

/** A VM without anything in it, on a kernel that has guest_memfd. */
function barebones(options: SelftestOptions): GuestVm {
  const g = new GuestVm(options);
  needs(g.machine, "kvm", "capGuestMemfd", "always", "KVM_CAP_GUEST_MEMFD is unknown here");
  return g;
}

/** A file and its VM, and the process's accesses to it. */
class Gmem {
  readonly g: GuestVm;
  readonly fd: number;
  constructor(
    readonly c: Checks,
    options: SelftestOptions,
    flags: number,
    readonly size = SIZE,
  ) {
    this.g = barebones(options);
    this.fd = this.g.vm.createGuestMemfd(size, flags);
    c.expect("KVM_CREATE_GUEST_MEMFD", true, this.fd >= 0);
  }
  mmap(length: number, flags = MAP_SHARED): number {
    return this.g.machine.host.mmap({ length, prot: RW, flags, fd: this.fd, align: BLOCK });
  }
  mapped(length: number): number {
    const at = this.mmap(length);
    this.c.expect("mmap", true, at > 0);
    return at;
  }
  fill(at: number, length: number): void {
    for (let n = 0; n < length; n += 8) this.g.machine.host.write(at + n, 8, FILLED);
  }
  /** The word that all of a range hold, or those that differ. */
  holds(name: string, at: number, length: number, expected: bigint): void {
    let [got, offset] = [expected, 0];
    for (; offset < length && got === expected; offset += 8) got = this.g.machine.host.read(at + offset, 8).value;
    this.c.expect(name, expected, got);
  }
  /** A load and a store are answered with SIGBUS. */
  sigbus(name: string, at: number): void {
    const { host } = this.g.machine;
    for (const [what, { signal }] of [
      ["store", host.write(at, 1, 0xaan)],
      ["load", host.read(at, 1)],
    ] as const)
      this.c.expect(`${name}: a ${what}`, `SIGBUS ${BUS_ADRERR}`, signal === undefined ? "done" : `${signal.name} ${signal.code}`);
  }
  fallocate(name: string, mode: number, offset: number, length: number, expected: string): void {
    this.c.expect(name, expected, answer(this.g.machine.host.fallocate(this.fd, mode, offset, length)));
  }
  close(): void {
    this.c.expect("close", 0, this.g.machine.host.close(this.fd));
  }
}

function flagBits(c: Checks, options: SelftestOptions): void {
  const { vm, machine } = barebones(options);
  const valid = vm.checkExtension(KVM_CAP_GUEST_MEMFD_FLAGS);
  for (let bit = 0; bit < FLAG_BITS; bit++) {
    const fd = vm.createGuestMemfd(PAGE, 2 ** bit);
    const known = bit < 31 && (valid & (1 << bit)) !== 0;
    c.expect(`flags 0x${(2 ** bit).toString(16)}`, known ? "made" : "EINVAL", fd < 0 ? answer(fd) : "made");
    if (fd >= 0) machine.host.close(fd);
  }
}

function createMultiple(c: Checks, options: SelftestOptions): void {
  const first = new Gmem(c, options, 0, PAGE);
  const second = first.g.vm.createGuestMemfd(2 * PAGE);
  c.expect("a second one", true, second >= 0 && second !== first.fd);
  first.fallocate("the first one ends after its page", FALLOC_FL_KEEP_SIZE, PAGE, PAGE, "EINVAL");
  c.expect("the second one does not", 0, first.g.machine.host.fallocate(second, FALLOC_FL_KEEP_SIZE, PAGE, PAGE));
  c.expect("close", 0, first.g.machine.host.close(second));
  first.close();
}

function invalidSizes(c: Checks, options: SelftestOptions, flags: number): void {
  const { vm } = barebones(options);
  let [size, got] = [0, "EINVAL"];
  while (got === "EINVAL" && ++size < PAGE) got = answer(vm.createGuestMemfd(size, flags));
  c.expect("no size below a page is one", "EINVAL up to 4096", `${got} up to ${size}`);
}

/** A file of these flags, made, tested and closed. */
const tested =
  (test: (m: Gmem) => void, size = SIZE) =>
  (c: Checks, options: SelftestOptions, flags: number): void => {
    const m = new Gmem(c, options, flags, size);
    test(m);
    m.close();
  };

function mmapSupported(m: Gmem): void {
  const at = m.mapped(SIZE);
  m.fill(at, SIZE);
  m.holds("filled", at, SIZE, FILLED);
  m.fallocate("a hole in place of the first page", PUNCH_HOLE, 0, PAGE, "0");
  m.holds("zeroes there", at, PAGE, 0n);
  m.holds("the rest as before", at + PAGE, SIZE - PAGE, FILLED);
  m.fill(at, PAGE);
  m.holds("filled again", at, SIZE, FILLED);
  m.c.expect("munmap", 0, m.g.machine.host.munmap(at, SIZE));
}

/** A mapping of `length` bytes of which the first `accessible` may be touched. */
function faultSigbus(m: Gmem, accessible: number, length: number): void {
  const at = m.mapped(length);
  m.fill(at, accessible);
  m.sigbus("beyond", at + accessible);
  m.sigbus("at the mapping's end", at + length - 1);
  m.holds("filled", at, accessible, FILLED);
  m.c.expect("munmap", 0, m.g.machine.host.munmap(at, length));
}

function mmapCow(m: Gmem): void {
  m.c.expect("mmap of a private mapping", "EINVAL", answer(m.mmap(SIZE, MAP_PRIVATE)));
}
function mmapNotSupported(m: Gmem): void {
  for (const length of [PAGE, SIZE]) m.c.expect(`mmap of ${length} bytes`, "ENODEV", answer(m.mmap(length)));
}

/** From v7.0 on the kernel's test asks it: pages are not collapsed, so that no more than what is shared can be mapped. */
function collapse(m: Gmem): void {
  const { host } = m.g.machine;
  const at = m.mapped(BLOCK);
  for (let n = 0; n < BLOCK; n += PAGE) host.read(at + n, 1);
  m.c.expect("MADV_HUGEPAGE", "0", answer(host.madvise(at, BLOCK, MADV_HUGEPAGE)));
  m.c.expect("MADV_COLLAPSE", "EINVAL", answer(host.madvise(at, BLOCK, MADV_COLLAPSE)));
  m.c.expect("MADV_DONTNEED", "0", answer(host.madvise(at, BLOCK, MADV_DONTNEED)));
  m.holds("zeroes", at, PAGE, 0n);
}

function fallocate(m: Gmem): void {
  m.fallocate("all of it", FALLOC_FL_KEEP_SIZE, 0, SIZE, "0");
  m.fallocate("hole at no page's start", PUNCH_HOLE, PAGE - 1, PAGE, "EINVAL");
  m.fallocate("from the end on", FALLOC_FL_KEEP_SIZE, SIZE, PAGE, "EINVAL");
  m.fallocate("behind the end", FALLOC_FL_KEEP_SIZE, SIZE + PAGE, PAGE, "EINVAL");
  m.fallocate("hole from the end on", PUNCH_HOLE, SIZE, PAGE, "0");
  m.fallocate("hole behind the end", PUNCH_HOLE, SIZE + PAGE, PAGE, "0");
  m.fallocate("hole of no whole page", PUNCH_HOLE, PAGE, PAGE - 1, "EINVAL");
  m.fallocate("hole of a page", PUNCH_HOLE, PAGE, PAGE, "0");
  m.fallocate("that page again", FALLOC_FL_KEEP_SIZE, PAGE, PAGE, "0");
}

function invalidPunchHole(m: Gmem): void {
  for (const offset of [0, 1, PAGE])
    for (const length of [1, PAGE - 1, PAGE, PAGE + 1])
      if (offset === 1 || length !== PAGE) m.fallocate(`hole of ${length} bytes at ${offset}`, PUNCH_HOLE, offset, length, "EINVAL");
}

/** The guest finds what the VMM has stored, and the VMM what the guest stores then. */
function guest(c: Checks, options: SelftestOptions): void {
  const g = barebones(options);
  const gpa = 2 ** 32;
  const flags = GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED;
  c.expect("KVM_CAP_GUEST_MEMFD", 1, g.vm.checkExtension(KVM_CAP_GUEST_MEMFD));
  c.expect("KVM_CAP_GUEST_MEMFD_FLAGS: mappable and shared", flags, g.vm.checkExtension(KVM_CAP_GUEST_MEMFD_FLAGS) & flags);
  g.boot();
  const { host } = g.machine;
  const guestMemfd = g.vm.createGuestMemfd(PAGE, flags);
  const at = host.mmap({ length: PAGE, prot: RW, flags: MAP_SHARED, fd: guestMemfd });
  const region = { slot: 2, flags: KVM_MEM_GUEST_MEMFD, guestPhysAddr: gpa, memorySize: PAGE, userspaceAddr: at };
  c.expect("KVM_SET_USER_MEMORY_REGION2", "0", answer(g.vm.setUserMemoryRegion2({ ...region, guestMemfd, guestMemfdOffset: 0 })));
  for (let n = 0; n < PAGE; n += 8) host.write(at + n, 8, FILLED);
  c.expect("munmap", 0, host.munmap(at, PAGE));
  g.map(gpa, gpa, 1);
  // x4: how many words were not as the VMM has left them.
  const words = ["ldr x5, [x0]", "cmp x5, x1", "csinc x4, x4, x4, eq", "str x2, [x0], #8", "sub x3, x3, #1", "cbnz x3, #-20"];
  g.program(PROGRAM, [...words, "str x4, [x28, #8]", "b #0"]);
  g.start({ x0: BigInt(gpa), x1: FILLED, x2: ONES, x3: BigInt(PAGE / 8), x4: 0n });
  c.expect("words that the guest finds changed", "0x0", said(g.run()));
  const again = host.mmap({ length: PAGE, prot: RW, flags: MAP_SHARED, fd: guestMemfd });
  let changed = 0;
  for (let n = 0; n < PAGE; n += 8) if (host.read(again + n, 8).value !== ONES) changed++;
  c.expect("words that the VMM finds changed", 0, changed);
  c.expect("close", 0, host.close(guestMemfd));
}

type Test = readonly [string, (c: Checks, options: SelftestOptions, flags: number) => void];
const ALWAYS: readonly Test[] = [
  ["create_guest_memfd_multiple", createMultiple],
  ["create_guest_memfd_invalid_sizes", invalidSizes],
  ["fallocate", tested(fallocate)],
  ["invalid_punch_hole", tested(invalidPunchHole)],
];
const BY_FLAGS: readonly (readonly [string, number, readonly Test[]])[] = [
  ["no flags", 0, [...ALWAYS, ["mmap_not_supported", tested(mmapNotSupported)]]],
  ["mmap", GUEST_MEMFD_FLAG_MMAP, [...ALWAYS, ["fault_private", tested((m) => faultSigbus(m, 0, SIZE))], ["mmap_cow", tested(mmapCow)]]],
  [
    "mmap, init shared",
    GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED,
    [
      ...ALWAYS,
      ["mmap_supported", tested(mmapSupported)],
      ["fault_overflow", tested((m) => faultSigbus(m, SIZE, 4 * SIZE))],
      ["collapse", tested(collapse, BLOCK)],
      ["mmap_cow", tested(mmapCow)],
    ],
  ],
];

export const guestMemfdTest: Selftest = {
  name: "guest_memfd_test",
  title: "the file of a guest_memfd, and a guest whose memory it is",
  cases: [
    { name: "flags", run: flagBits },
    ...BY_FLAGS.flatMap(([how, flags, tests]) =>
      tests.map(([name, run]): Case => ({ name: `${name} (${how})`, run: (c, o) => run(c, o, flags) })),
    ),
    { name: "guest", run: guest },
  ],
};
