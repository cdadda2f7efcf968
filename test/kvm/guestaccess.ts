/** Single loads and stores of a guest, for comparisons: the access, then an MMIO store that says it is over. */
import { assemble } from "../../src/arch/assemble.js";
import type { Machine } from "../../src/machine.js";
import { MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE } from "../../src/mmu/vmflags.js";

const PAGE = 4096;
/** IPA of the code; of the store that ends an access: no slot may hold it. */
const CODE = 0x1000_0000;
export const OUT = 0x900_0000;
const WORDS = ["ldr w1, [x0]", "str x1, [x9]", "str w1, [x0]", "str x1, [x9]"];

type Vm = ReturnType<Machine["createVm"]>;
type Vcpu = ReturnType<Vm["createVcpu"]>;

/** A page of the VMM's with the code. @returns its HVA, for `setCode` of each VM */
export function guestCode(m: Machine): number {
  const code = m.host.mmap({ length: PAGE, prot: PROT_READ | PROT_WRITE, flags: MAP_PRIVATE | MAP_ANONYMOUS });
  for (const [i, w] of WORDS.entries()) m.host.write(code + 4 * i, 4, BigInt(assemble(w)[0]! >>> 0));
  return code;
}
/** Slot 0 holds the code. @returns 0 | -errno */
export function setCode(vm: Vm, code: number): number {
  return vm.setUserMemoryRegion({ slot: 0, flags: 0, guestPhysAddr: CODE, memorySize: PAGE, userspaceAddr: code });
}
/** 4 bytes at an IPA. What was loaded is in X1; exits with MMIO at OUT when it is over. */
export function accessGuest(vcpu: Vcpu, ipa: number, store: boolean, value: number): ReturnType<Vcpu["run"]> {
  vcpu.set("x0", BigInt(ipa));
  vcpu.set("x1", BigInt(value));
  vcpu.set("x9", BigInt(OUT));
  vcpu.set("pc", BigInt(CODE + (store ? 8 : 0)));
  vcpu.cancelMmio();
  return vcpu.run({ maxExits: 50 });
}
