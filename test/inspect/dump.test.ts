import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { compile } from "../../src/guest/compile.js";
import { machineWorld } from "../../src/guest/machineworld.js";
import { dump, DUMPS, type DumpName } from "../../src/inspect/dump.js";
import { record, type Recorded } from "../../src/inspect/recorded.js";
import { Machine } from "../../src/index.js";

const scenario = (name: string) => readFileSync(new URL(`../../scenarios/${name}.guest`, import.meta.url), "utf8");

/** A script's first variant, or that of a name, with every event. */
function ran(source: string, variant?: string): Recorded {
  const program = compile("test.guest", source, machineWorld);
  return record(program, program.variants.find((v) => v.name === variant) ?? program.variants[0]!);
}

const SCRIPT = `
variant v7.2.12
machine { devices ivshmem  cpus 1 }
let ram = mmap(0, 2M, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, align=2M)
madvise(ram, 2M, MADV_NOHUGEPAGE)
KVM_SET_USER_MEMORY_REGION(slot=0, guest_phys_addr=0x80000000, memory_size=2M, userspace_addr=ram, flags=KVM_MEM_LOG_DIRTY_PAGES)
let dev = vfio_open(0000:00:06.0)
let bar = mmap(0, 16K, PROT_READ|PROT_WRITE, MAP_SHARED, dev, bar2)
KVM_SET_USER_MEMORY_REGION(slot=1, guest_phys_addr=0x90000000, memory_size=16K, userspace_addr=bar)
guest {
  mov x1, 0x80000000
  str x1, [x1]
  ldr x0, [x1, 0x1000]
  mov x2, 0x90000000
  ldr x0, [x2]
}
`;

describe("a run with RAM and a BAR, at its end", () => {
  const run = ran(SCRIPT);
  const lines = (what: DumpName, long = false) => dump(run.machine, what, long).lines;

  test("stage2 is the kernel's text, which never prints its last range", () => {
    expect(lines("stage2")).toEqual(run.machine.ptdump(0).split("\n"));
  });
  test("stage2 --long shows every range with output address and type", () => {
    expect(lines("stage2", true).slice(1)).toEqual([
      "---[ Guest IPA ]---",
      "0x0000000040000000-0x0000000040001000           4K 3   R W px ux  AF      pa 0x40001000  MEM/NORMAL  SH inner  sw 0000",
      "0x0000000080000000-0x0000000080001000           4K 3   R W PXNUXN AF      pa 0x40002000  MEM/NORMAL  SH inner  sw 0000",
      "0x0000000080001000-0x0000000080002000           4K 3   R   PXNUXN AF      pa 0x40000000  MEM/NORMAL  SH inner  sw 0000",
      "0x0000000090000000-0x0000000090001000           4K 3   R W PXNUXN AF      pa 0x8001000000  MEM/NORMAL-NC  SH inner  sw 0000",
    ]);
  });
  test("host", () => {
    expect(lines("host", true)).toEqual([
      "---[ VMM, pgd 0xc000000000 ]---",
      "0x0000fffff7bfc000-0x0000fffff7bfd000           4K PTE   USR ro NX SHD AF NG         UXN    DEVICE/nGnRnE  pa 0x8001000000  WRITE SPECIAL",
      "0x0000fffff7c00000-0x0000fffff7c01000           4K PTE   USR RW NX SHD AF NG         UXN    MEM/NORMAL  pa 0x40002000  WRITE DIRTY",
      "0x0000fffff7c01000-0x0000fffff7c02000           4K PTE   USR ro NX SHD AF NG         UXN    MEM/NORMAL  pa 0x40000000  SPECIAL",
      "0x0000fffff7e00000-0x0000fffff7e01000           4K PTE   USR RW NX SHD AF NG         UXN    MEM/NORMAL  pa 0x40001000  WRITE DIRTY",
    ]);
  });
  test("vmas", () => {
    expect(lines("vmas")).toEqual([
      "---[ /proc/VMM/smaps ]---",
      "fffff7bfc000-fffff7c00000 rw-s 20000000000 00:00 0                       anon_inode:[vfio-device]",
      "VmFlags: rd wr sh mr mw me ms pf io de dd ??",
      "fffff7c00000-fffff8000000 rw-p 00000000 00:00 0",
      "VmFlags: rd wr mr mw me nh",
    ]);
  });
  test("memslots", () => {
    expect(lines("memslots", true)).toEqual([
      "FlatView #0",
      ' AS "memory", root: VM 0',
      " Root memory region: VM 0",
      "  0000000040000000-00000000401fffff (prio 0, ram): anonymous KVM  slot 31, hva 0xfffff7e00000",
      "  0000000080000000-00000000801fffff (prio 0, ram): anonymous KVM  slot 0, hva 0xfffff7c00000, LOG_DIRTY_PAGES",
      "  0000000090000000-0000000090003fff (prio 0, ramd): 0000:00:06.0 BAR 2 mmaps[0] KVM  slot 1, hva 0xfffff7bfc000",
      "# generation 3, mmu_invalidate_seq 0, in progress 0",
    ]);
  });
  test("tlb", () => {
    expect(lines("tlb")).toEqual([
      "---[ CPU 0 ]---",
      "TLB       REGIME  VMID  ASID  VA              IPA         PA            SIZE  ENTRY                        TABLES NOW",
      "combined  guest   1     off   0x40000000      0x40000000  0x40001000    4K    rwx/rwx Normal WB.RW/WB.RW   same",
      "combined  guest   1     off   0x80000000      0x80000000  0x40002000    4K    rw-/rw- Normal WB.RW/WB.RW   same",
      "combined  guest   1     off   0x80001000      0x80001000  0x40000000    4K    r--/r-- Normal WB.RW/WB.RW   same",
      "combined  guest   1     off   0x90000000      0x90000000  0x8001000000  4K    rw-/rw- Device-nGnRnE        same",
      "combined  host          0     0xfffff7e00000              0x40001000    4K    rw-                          same",
      "stage 2   guest   1                           0x80001000                4K    descriptor 0x4000004000045b  same",
      "stage 2   guest   1                           0x90000000                4K    descriptor 0x400080010004d7  same",
      "walk 2    guest   1                           0x90000000  0xc00000c000  2M    level-3 table                same",
    ]);
  });
  test("what this run does not model says so", () => {
    for (const what of ["cache", "buffers"] as const) expect(lines(what)[0]).toMatch(/^# not modelled in this run/);
  });
});

test("between the clearing of an entry and its TLBI the TLB dump marks what is stale, afterwards nothing", () => {
  const run = ran(scenario("2019-munmap-remap"), "v5.5");
  const unmapped = run.events.find(["kvm_unmap_hva_range"], run.events.first, 1);
  const cleared = run.events.find(["stage2_entry"], unmapped, 1);
  const flushed = run.events.find(["dsb"], run.events.find(["tlbi"], run.events.find(["tlbi"], cleared, 1) + 1, 1), 1);
  const stale = (seq: number) =>
    dump(run.timeline.visit(seq), "tlb")
      .lines.filter((l) => l.includes("STALE"))
      .map((l) => l.replace(/ {2,}/g, " | "));
  expect(stale(cleared - 1)).toEqual([]);
  expect(stale(cleared)).toEqual([
    "combined | guest | 1 | off | 0x80000000 | 0x80000000 | 0x8001000000 | 4K | rw-/rw- Device-nGnRnE | STALE: stage 2 has no entry (level 3)",
    "stage 2 | guest | 1 | 0x80000000 | 4K | descriptor 0x400080010007c7 | STALE: no entry (level 3)",
  ]);
  expect(stale(flushed)).toEqual([]);
});

test("a guest's stage-1 tables are read through stage 2: blocks, pages, attributes, reserved descriptors", () => {
  expect(dump(ran(scenario("2015-s1ptw")).machine, "guest").lines).toEqual([
    "---[ vcpu0: TTBR0_EL1 0x80001000, 39 bits; TTBR1_EL1 disabled ]---",
    "0x40000000-0x80000000  1  ipa 0x40000000                      RW         AF             Normal WB.RW/WB.RW",
    "0xc0200000-0xc0400000  2  ipa 0x40000000                      RW         AF             Normal WB.RW/WB.RW",
    "0xc0601000-0xc0602000  3  reserved descriptor 0x40000705",
    "0xc0603000-0xc0604000  3  ipa 0x80001000                      RW                        Device nGnRnE",
  ]);
});

test("every dump of a machine without VMs and vCPUs, and of one after a host crash, can be made", () => {
  const empty = new Machine();
  const crashed = ran(scenario("2019-munmap-remap"), "v5.4").machine;
  expect(crashed.crashed).toBeDefined();
  for (const what of DUMPS) for (const m of [empty, crashed]) expect(dump(m, what, true).lines.length).toBeGreaterThan(0);
});

test("a name that is no dump is refused with the list", () => {
  expect(() => dump(new Machine(), "stag2" as DumpName)).toThrow(/one of stage2, host, guest, tlb/);
});
