/** Single operations of a guest: each is a stub of a few instructions that reports x4 to the VMM. */
import type { Vcpu } from "../machine.js";
import { PROGRAM, type Aborted, type GuestVm, type Other, type Report } from "./guestvm.js";

/** x0: address, x1: data; the result in x4. */
export const LOAD = ["ldr x4, [x0]"];
export const STORE = ["str x1, [x0]", "mov x4, x1"];
/** Loads without an instruction syndrome: write-back forms have ISV = 0. */
export const LOAD_NO_SYNDROME = ["ldr x4, [x0], #8"];
/** Calls the code at x0. */
export const CALL = ["blr x0", "mov x4, x0"];

const VALUE = 8;

export class GuestOps {
  private readonly stubs = new Map<string, number>();
  private next = PROGRAM;

  constructor(readonly g: GuestVm) {}

  /** Address of the first instruction of an operation. */
  entry(lines: readonly string[]): number {
    const key = lines.join("\n");
    let at = this.stubs.get(key);
    if (at === undefined) {
      at = this.next;
      this.next = this.g.program(at, [...lines, `str x4, [x28, #${VALUE}]`, "b #0"]);
      this.stubs.set(key, at);
    }
    return at;
  }

  /** Runs an operation from its start. */
  run(lines: readonly string[], address: number, data = 0n, vcpu: Vcpu = this.g.vcpu): Report | Other | Aborted {
    this.g.restart(vcpu, this.entry(lines), { x0: BigInt(address), x1: data, x4: 0n });
    return this.g.run(vcpu);
  }
  /** The same, as text: `0x…` for the value reported, an errno, `exit MMIO`, or the guest's exception. */
  outcome(lines: readonly string[], address: number, data = 0n, vcpu: Vcpu = this.g.vcpu): string {
    return said(this.run(lines, address, data, vcpu));
  }
}

export function said(e: Report | Other | Aborted): string {
  if (e.kind === "report") return `0x${e.data.toString(16)}`;
  return e.kind === "exit" ? e.text : `exception, ESR 0x${e.esr.toString(16)}`;
}
