import { expect, test } from "vitest";
import { faultline } from "./command.js";

test("explain without a step tells the last notable outcome, and which releases and decisions answer otherwise", async () => {
  const { status, out, err } = await faultline(["explain", "2019-exec-no-slot"]);
  expect([status, err]).toEqual([0, ""]);
  const parts = out.split("\n");
  expect(parts[1]).toBe("An external prefetch abort is injected into the guest, ESR_EL1 0x86000010");
  expect(out).toContain("KVM finds no memslot: none for gfn 0xc0000.");
  expect(out).toContain("What answers under other releases (each was run)");
  expect(out).toMatch(/--set execNoSlot=exit-to-user +KVM_RUN returns to the VMM/);
});

test("explain --json has the chain with event numbers and sources", async () => {
  const { status, out } = await faultline(["explain", "2026-write-notify-efault", "--no-check", "--json"]);
  const got = JSON.parse(out) as { access: { outcome: string }; chain: { what: string; source: string; seq: number }[]; whatIf: null };
  expect([status, got.access.outcome, got.whatIf]).toEqual([0, "KVM_RUN fails with EFAULT", null]);
  expect(got.chain.filter((l) => l.what === "branch").map((l) => l.source)).toEqual([
    "kvm_handle_guest_abort",
    "hva_to_pfn",
    "user_mem_abort",
  ]);
});

test("a run in which nothing failed lists its faults; an event of the VMM shows its statement", async () => {
  const served = await faultline(["explain", "2012-demand-fault"]);
  expect(served.status).toBe(0);
  expect(served.out.split("\n")[0]).toMatch(/nothing failed; every fault was served$/);
  const vmm = await faultline(["explain", "2026-write-notify-efault", "--step", "72"]);
  expect(vmm.out.split("\n").slice(0, 2)).toEqual([
    "scenarios/2026-write-notify-efault.guest, v6.18.2 (--kernel for v5.12, v7.2.12, retry): event 72 belongs to no guest access, but to what vmm did",
    "line 18: KVM_SET_USER_MEMORY_REGION(slot=1, guest_phys_addr=GPU, memory_size=64K, userspace_addr=blob)",
  ]);
  const none = await faultline(["explain", "2026-write-notify-efault", "--step", "99999"]);
  expect([none.status, none.err]).toEqual([2, "error: there is no event 99999: the run has the events 0 to 251\n"]);
});
