import { describe, expect, test } from "vitest";
import { BudgetError } from "../../src/guest/diagnostics.js";
import { failures, runAll } from "./run.js";

const RAM = `let RAM = 0x80000000
let ram = mmap(0, 2M, align=2M)
madvise(ram, 2M, MADV_NOHUGEPAGE)
KVM_SET_USER_MEMORY_REGION(slot=1, guest_phys_addr=RAM, memory_size=2M, userspace_addr=ram)
`;
const met = (source: string) => expect(failures(runAll(source))).toEqual([]);
const failed = (source: string) => failures(runAll(source));

describe("an expectation that is not met", () => {
  test("says what was expected and what happened instead", () => {
    expect(failed("guest { mov x0, 5 }\nexpect x0 == 6")).toEqual(["v6.12:2 x0 == 6: 5 == 6 does not hold"]);
  });
  test("about events shows those that came instead", () => {
    const [line] = failed(`${RAM}guest { ldr x0, [RAM] }\nexpect fault ipa=0x1000`);
    expect(line).toMatch(/0 such events; instead: .*ipa=0x80000000/);
  });
  test("carries the events that led to it", () => {
    const [r] = runAll(`${RAM}guest { ldr x0, [RAM] }\nexpect x0 == 1`);
    expect(r!.outcomes.at(-1)!.events.some((e) => e.event === "kvm_guest_fault")).toBe(true);
  });
  test("limited to another variant is not judged", () => {
    met("variant v5.4\nvariant v5.5\nguest { mov x0, 1 }\nexpect on v5.4 x0 == 1\nexpect on v5.5 x0 == 1\nexpect on v6.12 x0 == 2");
  });
  test("about stage 2 says what is mapped there", () => {
    expect(failed(`${RAM}guest { ldr x0, [RAM] }\nexpect stage2 RAM none`)[0]).toMatch(
      /ipa=0x80000000 size=0x1000 pa=0x[0-9a-f]+ level=3 type=Normal-WB/,
    );
    expect(failed(`${RAM}expect stage2 RAM size=4K`)[0]).toMatch(/nothing is mapped at ipa 0x80000000/);
  });
});

describe("what nobody expected fails a run:", () => {
  test("a call that fails", () => {
    expect(failed("munmap(1, 4096)")).toEqual(["v6.12:1 nothing unexpected: munmap gave EINVAL"]);
    met("munmap(1, 4096)\nexpect errno EINVAL");
    met("munmap(1, 4096)\nexpect ret == -22");
  });
  test("an exception that nobody handles", () => {
    expect(failed("guest { svc 0 }")[0]).toMatch(/vcpu0 took an exception at vector 0x200: esr=0x56000000/);
    met("guest { svc 0 }\nexpect exception esr=0x56000000 vector=0x200");
  });
  test("a guest that spins", () => {
    expect(failed("guest { here: b here }")[0]).toMatch(/spins/);
    met("guest { here: b here }\nexpect livelock");
  });
  test("KVM_RUN that fails", () => {
    expect(failed("guest { ldp x0, x1, [0x1000] }")[0]).toMatch(/KVM_RUN of vcpu0 gave ENOSYS/);
    met("guest { ldp x0, x1, [0x1000] }\nexpect errno ENOSYS");
  });
  test("an access of the VMM that gets a signal", () => {
    expect(failed("let v = read64(0x1000)")[0]).toMatch(/read64 gave SIGSEGV/);
  });
});

describe("guest code", () => {
  test("loops over addresses, nested", () => {
    met(`guest { mov x0, 0; for a in 0..3 { for b in 0..0x10000000 step 0x1000000 { add x0, x0, 1 } } }\nexpect x0 == 48`);
  });
  test("keeps its registers from block to block", () => {
    met("guest { mov x3, 7 }\nguest { add x3, x3, 1 }\nexpect x3 == 8");
  });
  test("of a second vCPU has registers of its own", () => {
    met("guest { mov x3, 7 }\nguest vcpu1 { mov x3, 8 }\nexpect x3 == 7\nexpect vcpu1.x3 == 8");
  });
  test("goes on after an exception that its handler returns from", () => {
    met(
      "on exception { mrs x9, elr_el1; add x9, x9, 4; msr elr_el1, x9; eret }\nguest { .inst 0; mov x0, 3 }\nexpect x0 == 3\nexpect no exception",
    );
  });
  test("ends where its handler ends without eret", () => {
    met("on exception { mov x0, 9 }\nguest { svc 1; mov x0, 3 }\nexpect x0 == 9\nexpect exception esr=0x56000001");
  });
  test("reads what the VMM answers, and 0 where it has no answer", () => {
    met(
      "on mmio read 0x9000000 -> 0x1234\nguest { ldr x0, [0x9000000]; ldrb w1, [0x9000000]; ldr x2, [0x9000008] }\nexpect x0 == 0x1234 && x1 == 0x34 && x2 == 0\nexpect 3 exit MMIO read",
    );
  });
  test("runs again where KVM_RUN stopped, once the cause is gone", () => {
    met(
      `${RAM}munmap(ram, 2M)\nguest { ldr x0, [RAM]; mov x1, 4 }\nexpect errno EFAULT\nmmap(ram, 2M, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)\nKVM_RUN(vcpu0)\nexpect x0 == 0 && x1 == 4`,
    );
  });
});

describe("par", () => {
  const source = `${RAM}par {
  guest vcpu0 { for p in RAM..RAM+32K step 4K { str x0, [p] } }
  guest vcpu1 { for p in RAM+64K..RAM+96K step 4K { str x0, [p] } }
  vmm { for n in 0..4 { madvise(ram + 0x20000, 0x1000, MADV_DONTNEED) } }
  vmm other { let v = read64(ram + 0x30000) }
}
expect at least 16 fault ipa>=RAM
expect ok`;
  test("runs its agents together, and they all come to their end", () => met(source));
  test("gives the same events in the same order every time", () => {
    const events = () => JSON.stringify(runAll(source, { detail: "all" })[0]!.steps);
    expect(events()).toBe(events());
  });
  test("interleaves phases: the first faults of both vCPUs overlap", () => {
    const [r] = runAll(source);
    const faults = r!.steps.flatMap((s) => s.events).filter((e) => e.event === "kvm_guest_fault" && Number(e["ipa"]) >= 0x80000000);
    const agents = faults.map((e) => e.agent);
    expect(new Set(agents)).toEqual(new Set(["vcpu0", "vcpu1"]));
    expect(agents.join("")).not.toMatch(/^(vcpu0)+(vcpu1)+$/);
  });
});

describe("a vCPU and its physical CPU", () => {
  test("each CPU has TLBs of its own: moved away and back, the vCPU finds the entries of the first again", () =>
    met(`machine { cpus 2 }
${RAM}
guest { mov x1, 7; str x1, [RAM]; ldr x0, [RAM] }
expect x0 == 7
guest { ldr x0, [RAM] }
expect no event tlb_miss
sched_setaffinity(vcpu0, 1)
guest { ldr x0, [RAM] }
expect at least 2 event tlb_miss
expect x0 == 7
sched_setaffinity(vcpu0, 0)
guest { ldr x0, [RAM] }
expect no event tlb_miss
expect no fault`));
  test("there is none beyond the machine's: EINVAL", () => met("machine { cpus 2 }\nsched_setaffinity(vcpu0, 2)\nexpect errno EINVAL"));
});

describe("guest code is what lies in memory", () => {
  test("a branch into data runs the words found there, before and after the VMM rewrites them", () =>
    met(`${RAM}write32(ram, 0xd2800540)       // mov x0, #42
write32(ram + 4, 0xd65f03c0)   // ret
guest { mov x5, RAM; blr x5; add x1, x0, 1 }
expect x1 == 43
write32(ram, 0xd2800560)       // mov x0, #43
guest { mov x5, RAM; blr x5; add x1, x0, 1 }
expect x1 == 44`));
  test("the guest may rewrite its own code: the caches of instructions are modelled as coherent", () =>
    met(`${RAM}write32(ram, 0xd2800540)
write32(ram + 4, 0xd65f03c0)
guest { mov x5, RAM; blr x5; mov w6, 0xd2800560; str w6, [x5]; blr x5 }
expect x0 == 43`));
  test("a word that is no instruction is Undefined", () =>
    met(`${RAM}guest { mov x5, RAM + 0x100; br x5 }
expect exception vector=0x200 esr=0x2000000 elr=RAM+0x100`));
});

describe("a decision without a source", () => {
  const bar = `machine { devices ivshmem }
variant old { kernel v5.6  set vfioPtes = wholeVmaAtFault }
variant chosen { kernel v5.6  set vfioPtes = wholeVmaAtFault  set vfioTrackedFault = returns }
variant other { kernel v5.6 }
let dev = vfio_open(0000:00:06.0)
pci_memory_enable(dev, 1)
let bar = mmap(0, 4M, PROT_READ|PROT_WRITE, MAP_SHARED, dev, bar2, align=2M)
let v = read32(bar)
`;
  test("is named by a run that asks it, and by no other", () =>
    expect(runAll(bar).map((r) => r.unknown)).toEqual([["vfioTrackedFault"], [], []]));
});

describe("a budget", () => {
  test("of steps ends a guest that loops for ever", () => {
    expect(() => runAll("guest { a: nop; b a }", { budget: { steps: 2000 } })).toThrow(BudgetError);
  });
  test("of steps ends loops in which nothing happens but an expectation", () => {
    const loops = "for i in 0..1000 { for j in 0..100 { expect no event tlbi } }";
    expect(() => runAll(loops, { budget: { steps: 5000 } })).toThrow("the run took more than 5000 steps");
  });
  test.each([
    "dc_civac(ram, 64G)",
    "evict(ram, 64G)",
    "UFFDIO_ZEROPAGE(uffd, ram, 32T)",
    "par { vmm { UFFDIO_POISON(uffd, ram, 32T) } }",
    "for i in 0..1000 { KVM_GET_DIRTY_LOG(1) }",
    "for i in 0..1000 { KVM_CLEAR_DIRTY_LOG(1, 0, 128M) }",
    "other_vms(1 << 40)",
  ])("of steps ends a call that asks for too much in one phase: %s", (call) => {
    const source = `let ram = mmap(0, 32T)
KVM_SET_USER_MEMORY_REGION(slot=1, flags=KVM_MEM_LOG_DIRTY_PAGES, guest_phys_addr=0x80000000, memory_size=512G, userspace_addr=ram)
let uffd = userfaultfd()
UFFDIO_REGISTER(uffd, ram, 32T)
`;
    expect(() => runAll(source + call, { budget: { steps: 10_000_000 } })).toThrow("the run took more than 10000000 steps");
  });
  test("of memory counts what is told of each step", () => {
    const source = "let a = mmap(0, 4K)\nfor i in 0..40000 { madvise(a, 4K, MADV_NOHUGEPAGE) }";
    expect(() => runAll(source, { budget: { memory: 16 * 1024 ** 2 } })).toThrow("needs more than 16777216 bytes");
  });
  test("of loop turns ends a VMM that loops for ever", () => {
    expect(() => runAll("for i in 0..0x7fffffff { let x = i }")).toThrow(/turns/);
  });
  test("of memory ends a script that fills it", () => {
    expect(() => runAll("let a = mmap(0, 1G)\nfor p in a..a+1G step 4K { write8(p, 1) }", { budget: { memory: 16 * 1024 ** 2 } })).toThrow(
      BudgetError,
    );
  });
});

test("a guest of a VM that was not created does not run", () => {
  const source = "variant v5.4\nKVM_CREATE_VM(mte=1)\nexpect errno EINVAL\n";
  const last = (rest: string) => runAll(source + rest)[0]!.outcomes.at(-1);
  const actual = "KVM_RUN gives EBADF: KVM_CREATE_VM failed, and no vCPU was created";
  expect(last("guest { nop }")).toMatchObject({ status: "failed", line: 4, actual });
  expect(last("par {\n guest { nop }\n vmm { munmap(0, 4K) }\n}")).toMatchObject({ status: "failed", line: 4, actual });
});

describe("a call that waits for ever", () => {
  const outcomes = (source: string) => runAll(source).flatMap((r) => r.outcomes.map((o) => `${o.line} ${o.status} ${o.actual}`));
  // v5.14 leaves mmap_lock taken where a VM with MTE gets a shared mapping.
  const leak = `variant v5.14
KVM_CREATE_VM(mte=1)
let ram = mmap(0, 64K, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_ANONYMOUS)
KVM_SET_USER_MEMORY_REGION(slot=1, guest_phys_addr=0x80000000, memory_size=64K, userspace_addr=ram)
expect errno EINVAL
madvise(ram, 64K, MADV_NOHUGEPAGE)
`;
  test("ends the run where nobody else runs", () => {
    expect(outcomes(leak)).toContain("6 failed this call waits for ever: nobody else runs");
  });
  test("is a deadlock for an expectation; behind it nothing is reached", () => {
    const all = outcomes(`${leak}expect deadlock\nmunmap(ram, 64K)\nexpect ok\nexpect on v5.14 ok`);
    expect(all).toContain("7 met ");
    expect(all).toContain("9 skipped a call waits for ever");
    expect(all).toContain("10 failed never reached: a call waits for ever");
  });
  test("keeps its thread out of a later par", () => {
    const wait = "par { vmm handler { let w = uffd_read(uffd) } }";
    const all = outcomes(`let uffd = userfaultfd()\n${wait}\nexpect deadlock\n${wait}`);
    expect(all).toEqual(["3 met ", "4 failed handler is still in a call of an earlier par, which waits for ever"]);
  });
});
