/**
 * What the workloads share: a VM of era v6.12 on CPU `max`, its code in a slot of its own, a memory slot, and a vCPU
 * that runs a loop until the loop stores to an address without a slot.
 */
import { assemble } from "../src/arch/assemble.js";
import { Machine, type MachineOptions, type Vcpu, type Vm } from "../src/machine.js";

const CODE_IPA = 0x1000_0000;
const CODE_SIZE = 0x10000;
/** A store here ends a program. */
export const EXIT_IPA = 0x0900_0000;
export const MEMORY_IPA = 0x1_0000_0000;

const PROT_RW = 3;
const MAP_PRIVATE_ANONYMOUS = 0x22;
const MADV_DONTNEED = 4;
const MADV_HUGEPAGE = 14;
const MADV_NOHUGEPAGE = 15;

export interface Guest {
  readonly machine: Machine;
  readonly vm: Vm;
  readonly vcpu: Vcpu;
}

/** A machine with a VM, a vCPU and this program (text of the assembler) at CODE_IPA. @param ipaBits of the VM, 0 for 40 */
export function guest(program: string, options: MachineOptions = {}, ipaBits = 0): Guest {
  const machine = new Machine({ ram: 8 * 2 ** 30, ...options });
  const vm = machine.createVm(ipaBits);
  const code = machine.host.mmap({ length: CODE_SIZE, prot: PROT_RW, flags: MAP_PRIVATE_ANONYMOUS });
  must(machine.host.madvise(code, CODE_SIZE, MADV_NOHUGEPAGE), "madvise");
  assembleProgram(program, CODE_IPA).forEach((word, i) =>
    must(machine.host.write(code + 4 * i, 4, BigInt(word >>> 0)).ret, "store of code"),
  );
  must(vm.setUserMemoryRegion({ slot: 0, flags: 0, guestPhysAddr: CODE_IPA, memorySize: CODE_SIZE, userspaceAddr: code }), "code slot");
  const vcpu = vm.createVcpu();
  return { machine, vm, vcpu };
}

/** Assembles lines with `name:` labels. Every line is one word. */
export function assembleProgram(text: string, base: number): number[] {
  const labels = new Map<string, number>();
  const lines: string[] = [];
  for (const line of text.split("\n").map((l) => l.trim())) {
    const m = /^(?:(\w+):)?\s*(.*)$/.exec(line)!;
    if (m[1] !== undefined) labels.set(m[1], base + 4 * lines.length);
    if (m[2] !== "") lines.push(m[2]!);
  }
  return lines.flatMap((line, i) => assemble(line, { pc: base + 4 * i, symbol: (name) => labels.get(name) }));
}

/** Maps anonymous memory of the VMM for the guest. @returns its host address */
export function anonymous(machine: Machine, bytes: number, huge: boolean): number {
  const at = machine.host.mmap({ length: bytes, prot: PROT_RW, flags: MAP_PRIVATE_ANONYMOUS, align: 0x200000 });
  must(machine.host.madvise(at, bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE), "madvise");
  return at;
}

/** Gives the memory back, mapping and slot stay: the next run faults every page in again, in the same machine. */
export function discard(machine: Machine, hva: number, bytes: number): void {
  must(machine.host.madvise(hva, bytes, MADV_DONTNEED), "madvise");
}

export function memorySlot(g: Guest, hva: number, bytes: number, slot = 1): void {
  must(g.vm.setUserMemoryRegion({ slot, flags: 0, guestPhysAddr: MEMORY_IPA, memorySize: bytes, userspaceAddr: hva }), "memory slot");
}

/** Starts the program, or its instruction number `from`, with these registers and runs it to its store to EXIT_IPA. */
export function runProgram(g: Guest, registers: Readonly<Record<string, number>>, from = 0): void {
  for (const [name, value] of Object.entries(registers)) g.vcpu.set(name, BigInt(value));
  g.vcpu.set("pc", BigInt(CODE_IPA + 4 * from));
  g.vcpu.set("x9", BigInt(EXIT_IPA));
  // The store that ended the last program is not completed: that would step the new PC over its first instruction.
  g.vcpu.cancelMmio();
  const { ret, exit } = g.vcpu.run();
  if (ret < 0 || exit.reason !== "MMIO" || exit.physAddr !== EXIT_IPA)
    throw new Error(`the guest program ended with ${ret}, ${JSON.stringify(exit, json)}`);
}

function json(_: string, v: unknown): unknown {
  return typeof v === "bigint" ? `0x${v.toString(16)}` : v;
}

/** A loop of stores, each to a page of its own: x0 address, x1 value (counts up), x2 how many, x3 distance. */
export const STORE_LOOP = `
loop: str x1, [x0]
  add x0, x0, x3
  add x1, x1, #1
  subs x2, x2, #1
  b.ne loop
  str x0, [x9]
`;

/** @throws Error if a call of the VMM failed */
export function must(ret: number, what: string): number {
  if (ret < 0) throw new Error(`${what} failed with errno ${-ret}`);
  return ret;
}
