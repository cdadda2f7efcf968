import { expect, test } from "vitest";
import { faultline } from "./command.js";

test("dump shows a table right after an event, and says which event that was", async () => {
  const { status, out, err } = await faultline(["dump", "2019-munmap-remap", "--kernel", "v5.5", "--what", "vmas", "--at", "100"]);
  expect({ status, err }).toEqual({ status: 0, err: "" });
  expect(out.split("\n")).toEqual([
    "# scenarios/2019-munmap-remap.guest, v5.5: right after event 100 (host_entry by vmm, line 15)",
    "---[ /proc/VMM/smaps ]---",
    "fffff7e00000-fffff8000000 rw-p 00000000 00:00 0",
    "VmFlags: rd wr mr mw me nh",
    "",
  ]);
});

test("dump --json has the event and the rows as data", async () => {
  const { status, out } = await faultline(["dump", "2015-s1ptw", "--what", "memslots", "--at", "100", "--json"]);
  const got = JSON.parse(out) as { what: string; at: number; event: { seq: number }; rows: { slot: number; gpa: number }[] };
  expect([status, got.what, got.at, got.event.seq]).toEqual([0, "memslots", 100, 100]);
  expect(got.rows.map((r) => [r.slot, r.gpa])).toEqual([
    [31, 0x40000000],
    [1, 0x80000000],
  ]);
});

test("an event that the run does not have, a dump that is none, a variant that is none: status 2 and the right names", async () => {
  const cases: [string[], RegExp][] = [
    [["--at", "99999999"], /there is no event 99999999: the run has the events 0 to \d+/],
    [["--what", "stage"], /Allowed choices are stage2, host, guest, tlb, vmas, memslots, cache, buffers/],
    [["--variant", "v54"], /no variant named "v54": did you mean "v5.4"\?/],
  ];
  for (const [args, message] of cases) {
    const { status, out, err } = await faultline(["dump", "2019-munmap-remap", ...args]);
    expect([status, out]).toEqual([2, ""]);
    expect(err).toMatch(message);
  }
});

test.each(["v5.5", "v6.12"])("%s: a memslot over a BAR names the BAR, whichever way the driver keeps vm_pgoff", async (kernel) => {
  const { out } = await faultline(["dump", "2019-munmap-remap", "--kernel", kernel, "--what", "memslots"]);
  expect(out.split("\n").filter((l) => l.includes("BAR"))).toEqual([
    "  0000000080000000-00000000803fffff (prio 0, ramd): 0000:00:06.0 BAR 2 mmaps[0] KVM",
  ]);
});
