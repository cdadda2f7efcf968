import { describe, expect, it } from "vitest";
import { Fixture } from "./tablesfixture.js";

/** Gives so many VMs a VMID; returns the VMIDs and whether everything was flushed. */
function many(era: string, n: number): { vmids: number[]; flushes: number; f: Fixture } {
  const f = new Fixture(era, { cpu: "cortex-a72", features: { vmidBits: 8 } });
  let flushes = 0;
  f.sim.bus.on("vmid_rollover", () => flushes++);
  const vmids = [f.vms.vmid(f.vm)];
  for (let i = 1; i < n; i++) {
    const vm = f.vms.create(0);
    f.vmids.update(vm);
    vmids.push(f.vms.vmid(vm));
  }
  return { vmids, flushes, f };
}

describe("VMIDs", () => {
  it.each(["v5.4", "v6.12"])("%s: are different until 255 are used, then start again with one flush of everything", (era) => {
    const before = many(era, 255);
    expect([new Set(before.vmids).size, before.flushes, before.vmids.includes(0)]).toEqual([255, 0, false]);
    expect(many(era, 256).flushes).toBe(1);
  });

  it("v5.4: every VM needs a new one after a rollover", () => {
    const { f } = many("v5.4", 256);
    expect(f.vmids.update(0)).toBe(true);
    expect(f.vmids.update(0)).toBe(false);
    expect(f.vms.vmid(0)).toBe(2);
  });

  it("v6.12: the VMID active on a CPU survives a rollover", () => {
    const { f, vmids } = many("v6.12", 255);
    const active = vmids[254]!;
    const fresh = f.vms.create(0);
    f.vmids.update(fresh);
    expect(f.vms.vmid(fresh)).not.toBe(active);
    f.vmids.update(254);
    expect(f.vms.vmid(254)).toBe(active);
  });

  it("are bits 63:48 of VTTBR_EL2", () => {
    const f = new Fixture("v6.12");
    expect([f.vms.vttbrHi(f.vm) >>> 16, f.vms.vttbrLo(f.vm) >>> 0]).toEqual([1, f.vms.root(f.vm)]);
  });

  it("a CPU drops its private translations when another vCPU of the VM ran there last, from v4.10", () => {
    const flushes = (era: string) => {
      const f = new Fixture(era);
      f.record();
      for (const v of [0, 0, 1, 1, 0]) f.vmids.vcpuLoad(f.vm, v);
      return [f.maintenance(), f.events.filter((e) => e.event === "icache_inval").length];
    };
    expect(flushes("v4.0")).toEqual(["", 0]);
    expect(flushes("v5.4")).toEqual(["vmalle1 dsb:nsh vmalle1 dsb:nsh", 0]);
    expect(flushes("v6.12")).toEqual(["vmalle1 dsb:nsh vmalle1 dsb:nsh", 2]);
  });
});
