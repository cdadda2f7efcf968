/** userfaultfd on the public API: a vCPU asleep in its fault, a thread that answers, and both taken back. */
import { describe, expect, it } from "vitest";
import { HostProcess } from "../../src/machine.js";
import { GuestOps, LOAD, STORE } from "../../src/selftest/guestops.js";
import { DATA_SLOT, GuestVm, PAGE } from "../../src/selftest/guestvm.js";

const DATA = 0x80000000;

function setup(kernel = "v6.12") {
  const g = new GuestVm({ kernel });
  g.boot();
  const region = g.add(DATA_SLOT, DATA, 16 * PAGE, "anonymous");
  g.map(DATA, DATA, 16);
  const vcpu = g.start();
  const m = g.machine;
  const handler = new HostProcess(m, m.addThread("handler"));
  const uffd = handler.userfaultfd();
  expect(uffd.register(region.hva, region.size, 1)).toBe(0);
  const buffer = g.backing("anonymous", PAGE).hva;
  m.host.write(buffer, 8, 0x1234n);
  const ops = new GuestOps(g);
  /** Begins a load on the vCPU. @returns whether it came to its end */
  const begin = (lines: readonly string[], address: number): boolean => {
    g.restart(vcpu, ops.entry(lines), { x0: BigInt(address), x1: 7n });
    m.begin(m.vcpuAgent(vcpu.id), { call: "KVM_RUN", vcpu: vcpu.id, maxExits: 100, maxInstructions: 1000 });
    return resume();
  };
  const resume = (): boolean => {
    const agent = m.vcpuAgent(vcpu.id);
    while (m.step(agent));
    return !m.busy(agent);
  };
  return { g, m, vcpu, region, uffd, handler, buffer, ops, begin, resume };
}

describe("a vCPU that meets a userfault", () => {
  it("sleeps in KVM_RUN without the mmap_lock until its page is there", () => {
    const s = setup();
    expect(s.begin(LOAD, DATA + 2 * PAGE)).toBe(false);
    expect(s.m.busy(s.m.vcpuAgent(s.vcpu.id))).toBe(true);
    expect(() => s.m.call(s.m.vcpuAgent(s.vcpu.id), { call: "fork" })).toThrow("this thread is in another call");
    // The lock is free: the VMM maps and unmaps meanwhile.
    const other = s.m.host.mmap({ length: PAGE });
    expect(s.m.host.munmap(other, PAGE)).toBe(0);
    expect(s.uffd.read()).toEqual({ address: s.region.hva + 2 * PAGE, flags: 0 });
    expect(s.uffd.read()).toBeUndefined();
    expect(s.resume()).toBe(false);
    expect(s.uffd.copy(s.region.hva + 2 * PAGE, s.buffer, PAGE)).toBe(PAGE);
    expect(s.resume()).toBe(true);
    expect(s.m.finish(s.m.vcpuAgent(s.vcpu.id)).exit).toMatchObject({ reason: "MMIO", isWrite: true, data: 0x1234n });
  });

  it("a store asks for a writable page; ZEROPAGE answers it too", () => {
    const s = setup();
    expect(s.begin(STORE, DATA)).toBe(false);
    expect(s.uffd.read()).toEqual({ address: s.region.hva, flags: 1 });
    expect(s.uffd.zeropage(s.region.hva, PAGE)).toBe(PAGE);
    expect(s.resume()).toBe(true);
    expect(s.m.host.read(s.region.hva, 8).value).toBe(7n);
  });

  it("write protection stops it again, and lets it go on", () => {
    const s = setup();
    expect(s.uffd.zeropage(s.region.hva, s.region.size)).toBe(s.region.size);
    expect(s.uffd.unregister(s.region.hva, s.region.size)).toBe(0);
    expect(s.uffd.register(s.region.hva, s.region.size, 2)).toBe(0);
    expect(s.begin(STORE, DATA + PAGE)).toBe(true);
    expect(s.uffd.writeprotect(s.region.hva, s.region.size, 1)).toBe(0);
    s.g.restart(s.vcpu, 0x1000);
    expect(s.begin(STORE, DATA + PAGE)).toBe(false);
    expect(s.uffd.read()).toEqual({ address: s.region.hva + PAGE, flags: 3 });
    expect(s.uffd.writeprotect(s.region.hva, s.region.size, 0)).toBe(0);
    expect(s.resume()).toBe(true);
  });

  it("a thread that waits for a message sleeps until there is one", () => {
    const s = setup();
    const waiter = s.m.addThread("waiter");
    s.m.begin(waiter, { call: "uffd_read", uffd: s.uffd.uffd, wait: true });
    while (s.m.step(waiter));
    expect(s.m.busy(waiter)).toBe(true);
    expect(() => s.m.call(s.handler.agent, { call: "uffd_read", uffd: s.uffd.uffd, wait: true })).toThrow("uffd_read waits for ever");
    expect(s.begin(LOAD, DATA)).toBe(false);
    while (s.m.step(waiter));
    expect(s.m.finish(waiter)).toEqual({ ret: 1, userfault: { address: s.region.hva, flags: 0 } });
  });

  it("a minor fault of a shared file is answered with CONTINUE", () => {
    const s = setup();
    const { host } = s.m;
    const fd = host.memfdCreate(16 * PAGE);
    const hva = host.mmap({ length: 16 * PAGE, flags: 1, fd });
    const alias = host.mmap({ length: 16 * PAGE, flags: 1, fd });
    const gpa = DATA + 0x1000000;
    expect(s.g.vm.setUserMemoryRegion({ slot: 5, flags: 0, guestPhysAddr: gpa, memorySize: 16 * PAGE, userspaceAddr: hva })).toBe(0);
    s.g.map(gpa, gpa, 1);
    const uffd = s.handler.userfaultfd();
    expect(uffd.register(hva, 16 * PAGE, 4)).toBe(0);
    host.write(alias, 8, 0x99n);
    expect(s.begin(LOAD, gpa)).toBe(false);
    expect(uffd.read()).toEqual({ address: hva, flags: 4 });
    expect(uffd.continue(hva, PAGE)).toBe(PAGE);
    expect(s.resume()).toBe(true);
    expect(s.m.finish(s.m.vcpuAgent(s.vcpu.id)).exit).toMatchObject({ data: 0x99n });
  });

  it("is taken back and goes the same way again", () => {
    const s = setup();
    const { state } = s.m.sim;
    s.ops.entry(LOAD);
    state.startRecording();
    const before = state.hash();
    const mark = state.mark();
    const once = (): string => {
      expect(s.begin(LOAD, DATA + 3 * PAGE)).toBe(false);
      expect(s.uffd.read()).toEqual({ address: s.region.hva + 3 * PAGE, flags: 0 });
      expect(s.uffd.copy(s.region.hva + 3 * PAGE, s.buffer, PAGE)).toBe(PAGE);
      expect(s.resume()).toBe(true);
      return state.hash();
    };
    const after = once();
    state.rollback(mark);
    expect(state.hash()).toBe(before);
    expect(once()).toBe(after);
  });
});

describe("calls", () => {
  it("a number that is no userfaultfd is EBADF, an old kernel has none", () => {
    const { m } = setup();
    expect(m.call(0, { call: "uffd_wake", uffd: 99, start: 0, len: PAGE }).ret).toBe(-9);
    expect(() => setup("v4.0")).toThrow("userfaultfd fails with errno 38");
  });
  it("continue, wake and the API handshake answer as the ioctls do", () => {
    const { m, uffd, region } = setup();
    expect(uffd.continue(region.hva, PAGE)).toBe(-22);
    expect(uffd.wake(region.hva, PAGE)).toBe(0);
    expect(m.call(0, { call: "uffd_api", uffd: uffd.uffd }).ret).toBe(-22);
    const raw = m.call(0, { call: "userfaultfd" }).ret;
    expect(m.call(0, { call: "uffd_register", uffd: raw, start: region.hva, len: PAGE, mode: 1 }).ret).toBe(-22);
  });
  it("KVM_SET_VCPU_EVENTS: an SError waits while it is masked, an external abort needs v5.5", () => {
    const { vcpu, m } = setup();
    expect(vcpu.setEvents({ serrorPending: true })).toBe(0);
    expect(m.getRegister(vcpu.id, "esr_el1") >> 26n).not.toBe(0x2fn);
    const old = new GuestVm({ kernel: "v5.4" });
    expect(old.vm.createVcpu().setEvents({ extDabtPending: true })).toBe(-22);
  });
});
