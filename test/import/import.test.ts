import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { Diagnostics } from "../../src/guest/diagnostics.js";
import { importMtree } from "../../src/import/mtree.js";
import { scriptText, type Import } from "../../src/import/skeleton.js";
import { importStrace } from "../../src/import/strace.js";
import { faultline, temporaryFolder } from "../cli/command.js";

const read = (reader: typeof importStrace, source: string): Import => reader("f", source, new Diagnostics("f", source));
const statements = (i: Import): string[] => i.lines.map((l) => l.statement).filter((s) => s !== "");

const SLOT =
  "ioctl(12, KVM_SET_USER_MEMORY_REGION, {slot=0, flags=0, guest_phys_addr=0x80000000, memory_size=2097152, userspace_addr=0x7fe000000000}) = 0";
const MMAP = "mmap(NULL, 2097152, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7fe000000000";

/** A QEMU-like trace: a scratch VM, RAM at 0x40000000, a read-only flash file, a BAR that is unmapped while a vCPU runs. */
const VMM = `12 ioctl(9, KVM_CREATE_VM, 0x28) = 10
12 ioctl(10, KVM_CREATE_VCPU, 0) = 11
12 ioctl(9, KVM_CREATE_VM, 0x28) = 12
12 mmap(NULL, 36307, PROT_READ, MAP_PRIVATE, 3, 0) = 0x7fecc251e000
12 mmap(NULL, 138412032, PROT_NONE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_NORESERVE, -1, 0) = 0x7fe000000000
12 mmap(0x7fe000000000, 134217728, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_FIXED|MAP_ANONYMOUS, -1, 0) = 0x7fe000000000
12 madvise(0x7fe000000000, 134217728, MADV_HUGEPAGE) = 0
12 madvise(0x7fe000000000, 134217728, MADV_SOFT_OFFLINE) = 0
12 ioctl(12, KVM_SET_USER_MEMORY_REGION, {slot=0, flags=0, guest_phys_addr=0x40000000, memory_size=134217728, userspace_addr=0x7fe000000000}) = 0
12 mmap(NULL, 65536, PROT_READ, MAP_SHARED, 7</usr/share/AAVMF/AAVMF_CODE.fd>, 0) = 0x7fdff0000000
12 ioctl(12, KVM_SET_USER_MEMORY_REGION, {slot=1, flags=KVM_MEM_READONLY, guest_phys_addr=0, memory_size=65536, userspace_addr=0x7fdff0000000}) = 0
12 mmap(NULL, 2097152, PROT_READ|PROT_WRITE, MAP_SHARED, 20<anon_inode:[vfio-device]>, 0x20000000000) = 0x7fdfe0000000
12 ioctl(12, KVM_SET_USER_MEMORY_REGION, {slot=2, flags=0, guest_phys_addr=0x8000000000, memory_size=2097152, userspace_addr=0x7fdfe0000000}) = 0
12 ioctl(12, KVM_CREATE_VCPU, 0) = 13
strace: Process 15 attached
15 ioctl(13, KVM_RUN <unfinished ...>
12 munmap(0x7fdfe0000000, 2097152) = 0
15 <... ioctl resumed>, 0) = 0
15 ioctl(13, KVM_RUN, 0) = -1 EINTR (Interrupted system call)
12 ioctl(12, KVM_SET_USER_MEMORY_REGION, {slot=2, flags=0, guest_phys_addr=0x8000000000, memory_size=0, userspace_addr=0x7fdfe0000000}) = 0
15 ioctl(13, KVM_RUN, 0) = 0
what is this
12 +++ exited with 0 +++
`;

const MTREE = `FlatView #0
 AS "I/O", root: io
 Root memory region: io
  0000000000000000-000000000000ffff (prio 0, ram): of another address space KVM

FlatView #1
 AS "memory", root: system
 AS "cpu-memory-0", root: system
 Root memory region: system
  0000000000000000-0000000003ffffff (prio 0, romd): virt.flash0 KVM
  0000000008000000-0000000008000fff (prio 0, i/o): gic_dist
  0000000080000000-00000000800fffff (prio 0, ram): mach-virt.ram KVM
  0000000080100000-00000000801fffff (prio 0, ram): mach-virt.ram @0000000000100000 KVM
  0000008000000000-00000080001fffff (prio 0, ramd): 0000:01:00.0 BAR 1 mmaps[0] KVM
  no such line
`;

test("a KVM_RUN that failed with EFAULT becomes an access to what is not mapped behind a slot, and an expectation of it", () => {
  const efault = "ioctl(13, KVM_RUN, 0) = -1 EFAULT (Bad address)";
  const hole = read(importStrace, [MMAP, SLOT, "munmap(0x7fe000100000, 4096) = 0", efault].join("\n"));
  expect(statements(hole).slice(2)).toEqual(["munmap(0x7fe000100000, 0x1000)", "guest { ldr x0, [0x80100000] }", "expect errno EFAULT"]);
  const mapped = read(importStrace, [MMAP, SLOT, efault].join("\n"));
  expect(mapped.lines.at(-1)).toMatchObject({ statement: "", comment: expect.stringContaining("failed with EFAULT") as string });
});

test("a memslot and the mapping below it keep the trace's addresses", () => {
  expect(statements(read(importStrace, `${MMAP}\n${SLOT}\nioctl(13, KVM_RUN, 0) = 0\n`))).toEqual([
    "mmap(0x7fe000000000, 0x200000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)",
    "KVM_SET_USER_MEMORY_REGION(slot=0, guest_phys_addr=0x80000000, memory_size=0x200000, userspace_addr=0x7fe000000000)",
    "guest { ldr x0, [0x80000000] }",
  ]);
});

test.each(["12 ", "[pid    12] ", "12:34:56 ", "12 12:34:56.123456 ", "1700000000.123456 "])("a line may begin with %j", (head) => {
  const i = read(importStrace, `${head}${MMAP}\n${head}${SLOT}\n`);
  expect([i.counts.statements, i.counts.notUnderstood]).toEqual([3, 0]);
});

test("a whole trace: the VM with the memslots, the BAR, unfinished calls, what is left out and what is not understood", () => {
  const i = read(importStrace, VMM);
  expect(statements(i)).toEqual([
    "KVM_CREATE_VM(ipa_bits=40)",
    "mmap(0x7fe000000000, 0x8400000, PROT_NONE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_NORESERVE|MAP_FIXED)",
    "mmap(0x7fe000000000, 0x8000000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)",
    "madvise(0x7fe000000000, 0x8000000, MADV_HUGEPAGE)",
    "KVM_SET_USER_MEMORY_REGION(slot=0, guest_phys_addr=0x40200000, memory_size=0x7e00000, userspace_addr=0x7fe000200000)",
    'let fd7 = memfd_create("fd7")',
    "ftruncate(fd7, 0x10000)",
    "mmap(0x7fdff0000000, 0x10000, PROT_READ, MAP_SHARED|MAP_FIXED, fd7, 0x0)",
    "KVM_SET_USER_MEMORY_REGION(slot=1, flags=KVM_MEM_READONLY, guest_phys_addr=0x0, memory_size=0x10000, userspace_addr=0x7fdff0000000)",
    "let fd20 = vfio_open(0000:00:06.0)",
    "mmap(0x7fdfe0000000, 0x200000, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_FIXED, fd20, bar2 + 0x0)",
    "KVM_SET_USER_MEMORY_REGION(slot=2, guest_phys_addr=0x8000000000, memory_size=0x200000, userspace_addr=0x7fdfe0000000)",
    "munmap(0x7fdfe0000000, 0x200000)",
    "guest { ldr x0, [0x40200000]; ldr x0, [0x0] }",
    "KVM_SET_USER_MEMORY_REGION(slot=2, guest_phys_addr=0x8000000000, memory_size=0, userspace_addr=0x7fdfe0000000)",
    "guest { ldr x0, [0x40200000]; ldr x0, [0x0] }",
  ]);
  expect(i.lines.filter((l) => l.comment.includes("not understood")).map((l) => l.from)).toEqual([8, 22]);
  expect(i.counts.notUnderstood).toBe(2);
});

test("a call that failed is not replayed", () => {
  const i = read(importStrace, `${MMAP}\n${SLOT}\nmunmap(0x7fe000000000, 3) = -1 EINVAL (Invalid argument)\n`);
  expect(statements(i).filter((s) => s.startsWith("munmap"))).toEqual([]);
  expect(i.lines.some((l) => l.comment.startsWith("line 3 failed with EINVAL"))).toBe(true);
});

test("a stranger's line in a comment cannot end the comment", () => {
  const i = read(importStrace, `${MMAP}\n${SLOT}\nevil\u2028munmap(0, 4096)\u0007\n`);
  const lines = scriptText(i).split("\n");
  expect(lines.filter((l) => l.includes("evil"))).toEqual(["// line 3, not understood: evil munmap(0, 4096)"]);
});

test("info mtree -f: the KVM ranges of the address space memory, parts of one region in one mapping", () => {
  const i = read(importMtree, MTREE);
  expect(statements(i)).toEqual([
    "let mem0 = mmap(0, 0x4000000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, align=2M)",
    "let mem1 = mmap(0, 0x200000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, align=2M)",
    "let dev = vfio_open(0000:00:06.0)",
    "let mem2 = mmap(0, 0x200000, PROT_READ|PROT_WRITE, MAP_SHARED, dev, bar2, align=2M)",
    "KVM_SET_USER_MEMORY_REGION(slot=0, flags=KVM_MEM_READONLY, guest_phys_addr=0x0, memory_size=0x4000000, userspace_addr=mem0)",
    "KVM_SET_USER_MEMORY_REGION(slot=1, guest_phys_addr=0x80000000, memory_size=0x100000, userspace_addr=mem1)",
    "KVM_SET_USER_MEMORY_REGION(slot=2, guest_phys_addr=0x80100000, memory_size=0x100000, userspace_addr=mem1 + 0x100000)",
    "KVM_SET_USER_MEMORY_REGION(slot=3, guest_phys_addr=0x8000000000, memory_size=0x200000, userspace_addr=mem2)",
    "guest { ldr x0, [0x0]; ldr x0, [0x80000000]; ldr x0, [0x80100000]; ldr x0, [0x8000000000] }",
  ]);
  expect(i.counts).toEqual({ lines: 15, statements: 9, notUnderstood: 1, leftOut: 2 });
});

test.each([
  ["ends before it begins", "0000000080000000-000000007fffffff"],
  ["lies where no IPA is", "ffffffff00000000-ffffffff000fffff"],
])("info mtree -f: a range that %s is not understood", (_why, range) => {
  const damaged = `  ${range} (prio 0, ram): mach-virt.ram KVM`;
  const i = read(importMtree, `${MTREE}${damaged}\n`);
  expect(i.counts.notUnderstood).toBe(read(importMtree, MTREE).counts.notUnderstood + 1);
  expect(statements(i)).toEqual(statements(read(importMtree, MTREE)));
});

test.each([
  ["strace", VMM],
  ["mtree", MTREE],
])("what import %s writes, run accepts and ends with 0; no temporary file stays", async (kind, text) => {
  const dir = temporaryFolder();
  const out = join(dir, "o.guest");
  writeFileSync(join(dir, "in"), text);
  const r = await faultline(["import", kind, join(dir, "in"), "-o", out]);
  expect(r.status).toBe(0);
  expect(r.err).toMatch(/not understood/);
  expect(readdirSync(dir).sort()).toEqual(["in", "o.guest"]);
  const run = await faultline(["run", out]);
  expect([run.status, run.err]).toEqual([0, ""]);
  const asJson = await faultline(["import", kind, join(dir, "in"), "--json"]);
  expect((JSON.parse(asJson.out) as { script: string }).script).toBe(readFileSync(out, "utf8"));
});

test.each([
  ["strace", "ioctl(3, KVM_SET_USER_MEMORY_REGION, 0x7ffe) = 0\n", /:1:1: error: a memory region that strace did not decode/],
  ["strace", "hello\n", /:1:1: error: no KVM_SET_USER_MEMORY_REGION/],
  ["mtree", "hello\n", /:1:1: error: no memory of a VM.*[^]*FlatView #0/],
  ["mtree", "a\nb\0", /:2: this is no text/],
])("import %s of %j is one clear error, status 2, and writes nothing", async (kind, text, message) => {
  const dir = temporaryFolder();
  const out = join(dir, "o.guest");
  const r = await faultline(["import", kind, "-", "-o", out], { input: text });
  expect(r.status).toBe(2);
  expect(r.err).toMatch(message);
  expect(r.err).not.toMatch(/ at .*\.js/);
  expect(existsSync(out)).toBe(false);
});

test("what the monitor of QEMU 7.2 printed of -machine virt -cpu max -m 1G, its banner and its echo included, is understood line by line", () => {
  const imported = read(importMtree, readFileSync(new URL("data/qemu-7.2-virt.mtree", import.meta.url), "utf8"));
  expect(imported.counts.notUnderstood).toBe(0);
  expect(statements(imported)).toEqual([
    "let mem0 = mmap(0, 0x4000000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, align=2M)",
    "let mem1 = mmap(0, 0x4000000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, align=2M)",
    "let mem2 = mmap(0, 0x40000000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, align=2M)",
    "KVM_SET_USER_MEMORY_REGION(slot=0, flags=KVM_MEM_READONLY, guest_phys_addr=0x0, memory_size=0x4000000, userspace_addr=mem0)",
    "KVM_SET_USER_MEMORY_REGION(slot=1, flags=KVM_MEM_READONLY, guest_phys_addr=0x4000000, memory_size=0x4000000, userspace_addr=mem1)",
    "KVM_SET_USER_MEMORY_REGION(slot=2, guest_phys_addr=0x40200000, memory_size=0x3fe00000, userspace_addr=mem2 + 0x200000)",
    "guest { ldr x0, [0x0]; ldr x0, [0x4000000]; ldr x0, [0x40200000] }",
  ]);
});
