import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { Machine } from "../../src/index.js";

test("every file that declares events is read for their types", () => {
  const types = readFileSync("src/api/events.ts", "utf8");
  const files = readdirSync("src", { recursive: true, encoding: "utf8" }).filter((f) => f.endsWith(".ts") && f !== "sim/events.ts");
  const silent = files.filter(
    (f) => /= declareEvent\(/.test(readFileSync(`src/${f}`, "utf8")) && !types.includes(`"../${f.replace(/ts$/, "js")}"`),
  );
  expect(silent).toEqual([]);
});

test("an option that a machine does not have is refused with the nearest right name", () => {
  const options = { histroy: true };
  expect(() => new Machine(options as object)).toThrow(new TypeError("a Machine has no option histroy: did you mean history?"));
});

test("an argument beyond what fits a process is refused, also one that a caller wrote as a negative number", () => {
  const machine = new Machine();
  const { host } = machine;
  const at = host.mmap({ length: 0x10000 });
  const HUGE = -4096; // 0xfffffffffffff000 as unsigned long
  const [ENOMEM, EFAULT, EINVAL] = [-12, -14, -22];
  expect(host.mmap({ length: HUGE })).toBe(ENOMEM);
  expect(host.mmap({ addr: HUGE, length: 4096, flags: 0x32 })).toBe(ENOMEM);
  expect(host.munmap(at, HUGE)).toBe(EINVAL);
  expect(host.munmap(HUGE, 4096)).toBe(EINVAL);
  expect(host.mprotect(at, HUGE, 1)).toBe(ENOMEM);
  expect(host.madvise(at, HUGE, 4)).toBe(EINVAL);
  expect(host.mremap({ oldAddress: at, oldSize: HUGE, newSize: 0x1000, flags: 1 })).toBe(EINVAL);
  expect(host.mremap({ oldAddress: HUGE, oldSize: 0x1000, newSize: 0x1000, flags: 1 })).toBe(EFAULT);
  expect(host.ftruncate(host.memfdCreate(4096), HUGE)).toBe(EINVAL);
  expect(host.write(at, 8, 5n).ret).toBe(0);
  const vm = machine.createVm();
  const slot = { slot: 1, flags: 0, guestPhysAddr: 0x80000000, memorySize: 0x10000, userspaceAddr: at };
  expect(vm.setUserMemoryRegion({ ...slot, memorySize: HUGE })).toBe(EINVAL);
  expect(vm.setUserMemoryRegion({ ...slot, guestPhysAddr: HUGE, memorySize: 0x1000 })).toBe(EINVAL);
  expect(vm.setUserMemoryRegion({ ...slot, userspaceAddr: HUGE })).toBe(EINVAL);
  expect(vm.setUserMemoryRegion(slot)).toBe(0);
});

test("the library opens a device, maps its BAR, gives it to a VM, and a listener knows the fields of its event", () => {
  const machine = new Machine({ kernel: "v5.5", devices: ["ivshmem"] });
  const faults: number[] = [];
  const off = machine.on("kvm_guest_fault", (e) => {
    const ipa: number = e.ipa;
    const hsr: string = e.hsr;
    // @ts-expect-error a field that this event does not have
    expect([typeof hsr, e.nosuch]).toEqual(["string", undefined]);
    faults.push(ipa);
  });
  const vm = machine.createVm();
  const code = machine.host.mmap({ length: 0x200000 });
  vm.setUserMemoryRegion({ slot: 0, flags: 0, guestPhysAddr: 0x40000000, memorySize: 0x200000, userspaceAddr: code });
  machine.host.write(code, 4, 0xf9400020n); // ldr x0, [x1]
  machine.host.write(code + 4, 4, 0x14000000n); // b .
  const device = machine.vfio.open("0000:00:06.0");
  const bar = device.mmap({ region: 2, length: 0x1000 });
  expect(bar).toBeGreaterThan(0);
  expect(device.mmap({ region: 2, length: 0x1000, offset: device.regionInfo(2).size })).toBe(-22);
  expect(vm.setUserMemoryRegion({ slot: 1, flags: 0, guestPhysAddr: 0x80000000, memorySize: 0x1000, userspaceAddr: bar })).toBe(0);
  expect(machine.host.munmap(bar, 0x1000)).toBe(0);
  expect(device.mmap({ region: 2, length: 0x1000, addr: bar, flags: 0x11 })).toBe(bar);
  const vcpu = vm.createVcpu();
  vcpu.set("pc", 0x40000000n);
  vcpu.set("x1", 0x80000000n);
  expect(vcpu.run().exit.reason).toBe("SELF_BRANCH");
  expect(faults).toEqual([0x40000000, 0x80000000]);
  off();
  expect(() => machine.on("kvm_guest_faul", () => undefined)).toThrow(/kvm_guest_faul/);
  expect(() => new Machine({ kernel: "v6.7" })).toThrow(/v6\.7/);
});
