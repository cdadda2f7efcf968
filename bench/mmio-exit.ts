/** Loads from an address without a slot: abort, decode, KVM_RUN returns, the VMM answers, the register is completed. */
import { guest, type Guest } from "./guest.js";
import type { Workload } from "./harness.js";

const DEVICE_IPA = 0x0a00_0000;

export function mmioExit(quick: boolean): Workload {
  const exits = quick ? 50_000 : 500_000;
  let g: Guest | undefined;
  let sum = 0n;
  return {
    name: "mmio-exit",
    compares: `${exits} loads from an address without a slot, each answered by the VMM`,
    unit: "exits",
    ops: exits,
    floor: 4e6,
    prepare() {
      g ??= guest("loop: ldr x1, [x0]\n add x2, x2, x1\n b loop");
      g.vcpu.set("x0", BigInt(DEVICE_IPA));
      g.vcpu.set("x2", 0n);
      g.vcpu.set("pc", 0x1000_0000n);
      g.vcpu.cancelMmio();
    },
    run() {
      const { vcpu } = g!;
      for (let i = 0; i < exits; i++) {
        const { exit } = vcpu.run();
        if (exit.reason !== "MMIO") throw new Error(`exit ${exit.reason}`);
        vcpu.answerMmio(3n);
      }
    },
    check() {
      // The last answer is completed by one more run.
      g!.vcpu.run();
      sum = g!.vcpu.get("x2");
      if (sum !== 3n * BigInt(exits)) throw new Error(`the guest summed ${sum}, not ${3 * exits}`);
    },
  };
}
