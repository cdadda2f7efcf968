/** Memslots backed by a guest_memfd: the ioctls' errors, what guest and host see of one file, and what real kernels did. */
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Machine, type Vm } from "../../src/index.js";
import { slotRows } from "../../src/inspect/mtree.js";
import { EACCES, EBADF, EBUSY, EEXIST, EINVAL, ENODEV, ENOTTY, EOPNOTSUPP, EPERM } from "../../src/sim/errno.js";
import { reproduced } from "../conform/realkernels.js";

const MIB = 0x100000;
const RAM = 0x80000000;
const MMAP = 1;
const SHARED = 2;
const GUEST_MEMFD = 4;
const LOG_DIRTY = 1;
const MAP_SHARED = 1;
const MAP_PRIVATE = 2;
const READ_WRITE = 3;
const PROT_EXEC = 4;
const MADV_REMOVE = 9;
const KEEP_SIZE = 1;
const PUNCH_HOLE = 2;
const KVM_CAP_ARM_MTE = 205;

const machine = (kernel: string, cpu = "max"): Machine => new Machine({ kernel, cpu });
const region = (vm: Vm, fd: number, more: Record<string, number> = {}): number =>
  vm.setUserMemoryRegion2({
    slot: 1,
    flags: GUEST_MEMFD,
    guestPhysAddr: RAM,
    memorySize: MIB,
    userspaceAddr: 0,
    guestMemfdOffset: 0,
    guestMemfd: fd,
    ...more,
  });

describe("what the ioctls refuse", () => {
  it("there is no guest_memfd before v6.18 on arm64, and no second ioctl before v6.8", () => {
    const answers = ["v6.6", "v6.8", "v6.17"].map((kernel) => {
      const vm = machine(kernel).createVm();
      const plain = { flags: 0, userspaceAddr: 0x10000000 };
      return [vm.createGuestMemfd(MIB), region(vm, 3), region(vm, -1, plain), [231, 234, 244].map((cap) => vm.checkExtension(cap))];
    });
    expect(answers).toEqual([
      [-ENOTTY, -ENOTTY, -ENOTTY, [0, 0, 0]],
      [-ENOTTY, -EINVAL, 0, [1, 0, 0]],
      [-ENOTTY, -EINVAL, 0, [1, 0, 0]],
    ]);
  });

  it("KVM_CREATE_GUEST_MEMFD wants known flags and whole pages", () => {
    const vm = machine("v6.18.2").createVm();
    expect([[0], [-4096], [4095], [MIB, 4]].map(([size, flags]) => vm.createGuestMemfd(size!, flags))).toEqual(Array(4).fill(-EINVAL));
    expect([231, 234, 244].map((cap) => vm.checkExtension(cap))).toEqual([1, 1, 3]);
  });

  it("a memslot wants a file of its VM that can be mapped, inside its size, that no other memslot has", () => {
    const m = machine("v6.18.2");
    const vm = m.createVm();
    const fd = vm.createGuestMemfd(4 * MIB, MMAP | SHARED);
    const memfd = m.host.memfdCreate(4 * MIB);
    const other = m.createVm();
    expect({
      noFile: region(vm, 77),
      memfd: region(vm, memfd),
      otherVm: region(other, fd),
      unmappable: region(vm, vm.createGuestMemfd(MIB, SHARED)),
      beyond: region(vm, fd, { guestMemfdOffset: 3 * MIB + 0x1000 }),
      unaligned: region(vm, fd, { guestMemfdOffset: 0x800 }),
      logged: region(vm, fd, { flags: GUEST_MEMFD | LOG_DIRTY }),
      firstIoctl: vm.setUserMemoryRegion({ slot: 1, flags: GUEST_MEMFD, guestPhysAddr: RAM, memorySize: MIB, userspaceAddr: 0 }),
      good: region(vm, fd),
      again: region(vm, fd),
      overlap: region(vm, fd, { slot: 2, guestPhysAddr: 2 * RAM, guestMemfdOffset: MIB - 0x1000 }),
      beside: region(vm, fd, { slot: 2, guestPhysAddr: 2 * RAM, guestMemfdOffset: MIB }),
    }).toEqual({
      noFile: -EBADF,
      memfd: -EINVAL,
      otherVm: -EINVAL,
      unmappable: -EINVAL,
      beyond: -EINVAL,
      unaligned: -EINVAL,
      logged: -EINVAL,
      firstIoctl: -EINVAL,
      good: 0,
      again: -EINVAL,
      overlap: -EINVAL,
      beside: 0,
    });
  });

  it.each(["v6.18.2", "v7.2.12"])(
    "%s: overlap, change of flags and memory tags as gmemBindOverlap, gmemFlagChange and gmemMte say",
    (kernel) => {
      const m = machine(kernel);
      const vm = m.createVm();
      const fd = vm.createGuestMemfd(MIB, MMAP);
      region(vm, fd);
      const tagged = m.createVm();
      tagged.enableCap(KVM_CAP_ARM_MTE, 1);
      expect({
        overlap: region(vm, fd, { slot: 2, guestPhysAddr: 2 * RAM }),
        flags: vm.setUserMemoryRegion({ slot: 1, flags: LOG_DIRTY, guestPhysAddr: RAM, memorySize: MIB, userspaceAddr: 0 }),
        tagged: region(tagged, tagged.createGuestMemfd(MIB, MMAP)),
      }).toEqual(kernel === "v6.18.2" ? { overlap: -EINVAL, flags: 0, tagged: 0 } : { overlap: -EEXIST, flags: -EINVAL, tagged: -EINVAL });
    },
  );

  it("mmap wants MAP_SHARED, the flag of the file, and no execution; ftruncate, the wrong fallocate and kvm_destroy_vm are refused", () => {
    const m = machine("v6.18.2");
    const vm = m.createVm();
    const fd = vm.createGuestMemfd(MIB, MMAP | SHARED);
    const map = (file: number, prot: number, flags: number): number => m.host.mmap({ length: MIB, prot, flags, fd: file });
    expect({
      private: map(fd, READ_WRITE, MAP_PRIVATE),
      unmappable: map(vm.createGuestMemfd(MIB), READ_WRITE, MAP_SHARED),
      executable: map(fd, READ_WRITE | PROT_EXEC, MAP_SHARED),
      ftruncate: m.host.ftruncate(fd, 2 * MIB),
      grows: m.host.fallocate(fd, 0, 0, 0x1000),
      unaligned: m.host.fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 0x800, 0x1000),
      beyond: m.host.fallocate(fd, KEEP_SIZE, MIB, 0x1000),
      holeBeyond: m.host.fallocate(fd, PUNCH_HOLE | KEEP_SIZE, MIB, 0x1000),
      destroy: m.call(0, { call: "kvm_destroy_vm", vm: vm.id }).ret,
      closed: m.host.close(fd),
      closedAgain: m.host.close(fd),
      mapClosed: map(fd, READ_WRITE, MAP_SHARED),
    }).toEqual({
      private: -EINVAL,
      unmappable: -ENODEV,
      executable: -EPERM,
      ftruncate: -EINVAL,
      grows: -EOPNOTSUPP,
      unaligned: -EINVAL,
      beyond: -EINVAL,
      holeBeyond: 0,
      destroy: -EBUSY,
      closed: 0,
      closedAgain: -EBADF,
      mapClosed: -EBADF,
    });
  });

  it("memory that is not shared from the start gives the host a SIGBUS, and the guest its pages", () => {
    const m = machine("v6.18.2");
    const vm = m.createVm();
    const fd = vm.createGuestMemfd(MIB, MMAP);
    const hva = m.host.mmap({ length: 2 * MIB, prot: READ_WRITE, flags: MAP_SHARED, fd });
    expect(region(vm, fd)).toBe(0);
    expect([m.host.read(hva, 8).signal, m.host.read(hva + MIB, 8).signal]).toMatchObject([{ name: "SIGBUS" }, { name: "SIGBUS" }]);
  });

  it("the list of memslots names the file, and its place in it, until it is closed", () => {
    const m = machine("v6.18.2");
    const vm = m.createVm();
    const fd = vm.createGuestMemfd(2 * MIB, MMAP);
    region(vm, fd, { guestMemfdOffset: 0x1000 });
    const before = slotRows(m, vm.id);
    m.host.close(fd);
    expect([...before, ...slotRows(m, vm.id)]).toMatchObject([
      { name: `[kvm-gmem] fd${fd} + 0x1000`, flags: ["GUEST_MEMFD"] },
      { name: "[kvm-gmem], closed", flags: ["GUEST_MEMFD"] },
    ]);
  });

  it.each(["v6.6", "v6.8"])("%s: MADV_REMOVE of a read-only shared mapping as removeReadOnly says", (kernel) => {
    const m = machine(kernel);
    const fd = m.host.memfdCreate(MIB);
    const hva = m.host.mmap({ length: MIB, prot: READ_WRITE, flags: MAP_SHARED, fd });
    m.host.write(hva, 8, 5n);
    m.host.mprotect(hva, MIB, 1);
    const ret = m.host.madvise(hva, 0x1000, MADV_REMOVE);
    expect([ret, m.host.read(hva, 8).value]).toEqual(kernel === "v6.6" ? [-EACCES, 5n] : [0, 0n]);
  });
});

describe("what guest and host see", () => {
  type Op = {
    readonly what: "guest store" | "guest load" | "store" | "load" | "hole" | "allocate";
    readonly page: number;
    readonly n: number;
  };
  const PAGES = 8;
  const op = fc.record<Op>({
    what: fc.constantFrom("guest store", "guest load", "store", "load", "hole", "allocate"),
    page: fc.nat(PAGES - 1),
    n: fc.integer({ min: 1, max: 3 }),
  });

  it.each(["v6.18.2", "v7.2.12"])("%s: one memory, by a naive model: an array of words", (kernel) => {
    fc.assert(
      fc.property(fc.array(op, { maxLength: 30 }), (ops) => {
        const m = machine(kernel);
        const vm = m.createVm();
        const fd = vm.createGuestMemfd(PAGES * 0x1000, MMAP | SHARED);
        const hva = m.host.mmap({ length: PAGES * 0x1000, prot: READ_WRITE, flags: MAP_SHARED, fd });
        region(vm, fd, { memorySize: PAGES * 0x1000 });
        const code = m.host.mmap({ length: 0x1000, prot: 7, flags: 0x22 });
        vm.setUserMemoryRegion({ slot: 0, flags: 0, guestPhysAddr: 0x40000000, memorySize: 0x1000, userspaceAddr: code });
        m.host.write(code, 8, 0x1400_0000_f900_0001n); // str x1, [x0]; b .
        m.host.write(code + 8, 8, 0x1400_0000_f940_0001n); // ldr x1, [x0]; b .
        const vcpu = vm.createVcpu();
        const guest = (pc: number, page: number, x1: bigint): bigint => {
          for (const [name, value] of Object.entries({ pc: BigInt(pc), x0: BigInt(RAM + page * 0x1000), x1 })) vcpu.set(name, value);
          expect(vcpu.run().exit.reason).toBe("SELF_BRANCH");
          return vcpu.get("x1");
        };
        const model = new Array<bigint>(PAGES).fill(0n);
        ops.forEach(({ what, page, n }, i) => {
          const value = BigInt(i + 1);
          if (what === "guest store") guest(0x40000000, page, (model[page] = value));
          else if (what === "guest load") expect(guest(0x40000008, page, 0n)).toBe(model[page]);
          else if (what === "store") m.host.write(hva + page * 0x1000, 8, (model[page] = value));
          else if (what === "load") expect(m.host.read(hva + page * 0x1000, 8).value).toBe(model[page]);
          else if (what === "hole") {
            expect(m.host.fallocate(fd, PUNCH_HOLE | KEEP_SIZE, page * 0x1000, n * 0x1000)).toBe(0);
            model.fill(0n, page, page + n);
          } else expect(m.host.fallocate(fd, KEEP_SIZE, page * 0x1000, 0x1000)).toBe(0);
        });
        for (const leaf of vm.stage2Leaves().filter((l) => l.ipa >= RAM)) expect(leaf.size).toBe(0x1000);
      }),
      { numRuns: 60 },
    );
  });
});

describe("real kernels: v6.18.15 as v6.18.2, where a fetch from a page that is mapped without execution never ends (gmemPermissionFault)", () => {
  reproduced(join(import.meta.dirname, "guestmemfd"), "a real kernel's %s is reproduced", 10);
});
