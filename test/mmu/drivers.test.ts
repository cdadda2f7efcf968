/** The platform devices: what their VMAs and host entries look like, page by page. */
import { describe, expect, it } from "vitest";
import { Machine } from "../../src/machine.js";
import { PLATFORM_DEVICES } from "../../src/mmu/drivers/platform.js";
import { ENOENT, EINVAL, EPERM } from "../../src/sim/errno.js";

const SHARED = 1;
const RW = 3;

function mapped(name: string, kernel = "v6.12", size = 0x10000) {
  const m = new Machine({ kernel });
  const fd = m.call(0, { call: "open", name, size }).ret;
  const hva = m.host.mmap({ length: size, prot: RW, flags: SHARED, fd });
  return { m, fd, hva };
}
const vmaOf = (m: Machine, hva: number) => m.mm.maps(0).find((v) => v.start === hva)!;

describe("a platform device", () => {
  it("has a VMA of its kind", () => {
    const seen = PLATFORM_DEVICES.filter((n) => n !== "/dev/mem").map((name) => {
      const { m, hva } = mapped(name, "v6.12", name === "/dev/insert_page" ? 4096 : 0x10000);
      const v = vmaOf(m, hva);
      return [name, v.flags.filter((f) => /PFNMAP|MIXEDMAP|^IO$/.test(f)).join(" "), v.pageProt];
    });
    expect(seen).toEqual([
      ["/dev/remap_ram", "PFNMAP IO", "normal"],
      ["/dev/high_order", "PFNMAP IO", "normal"],
      ["/dev/drm_shmem", "PFNMAP IO", "writecombine"],
      ["/dev/vgpu", "PFNMAP IO", "noncached"],
      ["/dev/gpu_memory", "PFNMAP IO", "normal"],
      ["/dev/dax", "MIXEDMAP", "normal"],
      ["/dev/uncached", "PFNMAP IO", "writecombine"],
      ["/dev/ttm", "IO MIXEDMAP", "noncached"],
      ["/dev/insert_page", "MIXEDMAP", "normal"],
    ]);
  });

  it("insert_page maps its first page, and when the second has no reference mmap takes that back, and says EINVAL", () => {
    const m = new Machine();
    const fd = m.call(0, { call: "open", name: "/dev/insert_page", size: 0x2000 }).ret;
    const at = 0x7f0000000000;
    const fixed = 0x11; // MAP_SHARED | MAP_FIXED
    const entries: number[] = [];
    m.on("host_entry", (e) => {
      if (e.level === 3) entries.push(e.addr);
    });
    expect(m.call(0, { call: "mmap", addr: at, length: 0x2000, prot: RW, flags: fixed, fd }).ret).toBe(-EINVAL);
    expect([entries, m.mm.pt.walk(0, at), m.mm.maps(0).some((v) => v.start === at)]).toEqual([[at, at], false, false]);
    expect(m.call(0, { call: "mmap", addr: at, length: 0x1000, prot: RW, flags: fixed, fd }).ret).toBe(at);
  });

  it("gives its memory to loads and stores of every size", () => {
    const { m, hva } = mapped("/dev/gpu_memory");
    expect(m.host.read(hva + 0x3000, 4).value).toBe(3n);
    expect(m.host.read(hva + 0x3000, 8).value).toBe(0x300000003n);
    m.host.write(hva + 0x3006, 2, 0xbeefn);
    m.host.write(hva + 0x3001, 1, 0x5an);
    expect(m.host.read(hva + 0x3000, 8).value).toBe(0xbeef000300005a03n & 0xffffffffffffffffn);
    expect(m.host.read(hva + 0x4000, 4).value).toBe(4n);
  });

  it("vgpu gives its pages in reverse order, from any offset", () => {
    const { m, fd, hva } = mapped("/dev/vgpu");
    expect(m.host.read(hva, 4).value).toBe(15n);
    const part = m.host.mmap({ length: 0x2000, prot: RW, flags: SHARED, fd, offset: 0x3000 });
    expect([m.host.read(part, 4).value, m.host.read(part + 0x1000, 4).value]).toEqual([12n, 11n]);
  });

  it("drm_shmem's entries are read-only until the first store", () => {
    const { m, hva } = mapped("/dev/drm_shmem");
    m.host.read(hva, 4);
    m.mm.pt.walk(0, hva);
    expect(m.mm.pt.writable).toBe(false);
    m.host.write(hva, 4, 1n);
    m.mm.pt.walk(0, hva);
    expect(m.mm.pt.writable).toBe(true);
  });

  it("high_order's pages have no references but the first; dax counts outside RAM", () => {
    const { m, hva } = mapped("/dev/high_order");
    m.mm.pt.walk(0, hva);
    const pfn = m.mm.pt.leafPfn;
    expect([m.mm.frames.refcount(pfn), m.mm.frames.refcount(pfn + 1)]).toEqual([1, 0]);
    const d = mapped("/dev/dax");
    d.m.host.read(d.hva, 4);
    d.m.mm.pt.walk(0, d.hva);
    const page = d.m.mm.pt.leafPfn;
    expect([d.m.mm.frames.pfnValid(page), d.m.mm.frames.isMapMemory(page), d.m.mm.frames.refcount(page)]).toEqual([true, false, 2]);
    d.m.host.munmap(d.hva, 0x10000);
    expect(d.m.mm.frames.refcount(page)).toBe(1);
  });

  it("refuses what its kernel refuses", () => {
    const m = new Machine();
    expect(m.call(0, { call: "open", name: "/dev/nothing", size: 4096 }).ret).toBe(-ENOENT);
    expect(m.call(0, { call: "open", name: "/dev/vgpu", size: 2 ** 30 }).ret).toBe(-EINVAL);
    const mem = m.call(0, { call: "open", name: "/dev/mem", size: 0 }).ret;
    expect(m.host.mmap({ length: 4096, prot: RW, flags: SHARED, fd: mem, offset: 0x40000000 })).toBe(-EPERM);
    const window = m.host.mmap({ length: 4096, prot: RW, flags: SHARED, fd: mem, offset: 0xe000000000 + 4 * 2 ** 32 });
    expect(m.host.read(window, 4).value).toBe(0n);
    const fd = m.call(0, { call: "open", name: "/dev/vgpu", size: 0x2000 }).ret;
    expect(m.host.mmap({ length: 0x3000, prot: RW, flags: SHARED, fd })).toBe(-EINVAL);
    expect(m.host.mmap({ length: 0x1000, prot: RW, flags: 2, fd })).toBe(-EINVAL);
  });

  it("reads a private copy-on-write mapping of /dev/mem as KVM may be told to refuse", () => {
    const run = (set: Record<string, string>) => {
      const m = new Machine({ kernel: "v6.17", set });
      const mem = m.call(0, { call: "open", name: "/dev/mem", size: 0 }).ret;
      const hva = m.host.mmap({ length: 0x1000, prot: RW, flags: 2, fd: mem, offset: 0xe000000000 + 4 * 2 ** 32 });
      m.createVm();
      const vcpu = m.call(0, { call: "KVM_CREATE_VCPU" }).ret;
      m.call(0, {
        call: "KVM_SET_USER_MEMORY_REGION",
        slot: 1,
        flags: 0,
        guestPhysAddr: 0x80000000,
        memorySize: 0x1000,
        userspaceAddr: hva,
      });
      const code = m.host.mmap({ length: 0x1000 });
      m.host.write(code, 8, 0x14000000f9400000n); // ldr x0, [x0]; b .
      m.call(0, {
        call: "KVM_SET_USER_MEMORY_REGION",
        slot: 2,
        flags: 0,
        guestPhysAddr: 0x40000000,
        memorySize: 0x1000,
        userspaceAddr: code,
      });
      m.setRegister(vcpu, "pc", 0x40000000n);
      m.setRegister(vcpu, "x0", 0x80000000n);
      return m.call(m.vcpuAgent(vcpu), { call: "KVM_RUN", vcpu, maxInstructions: 20, maxExits: 20 }).ret;
    };
    expect(run({})).toBe(0);
    expect(run({ cowPfnmap: "refuse" })).toBe(-14);
  });
});
