/** mmio_sign_ext: what a sign-extending load of unbacked memory gives, by width and destination. */
import { GuestOps } from "./guestops.js";
import { GuestVm } from "./guestvm.js";
import type { Case, Checks, Selftest, SelftestOptions } from "./report.js";

const MMIO = 0x8000000;

interface Load {
  readonly name: string;
  readonly bits: number;
  readonly signed: boolean;
  readonly to: 32 | 64;
}
const LOADS: readonly Load[] = [
  { name: "ldrsb x4", bits: 8, signed: true, to: 64 },
  { name: "ldrsb w4", bits: 8, signed: true, to: 32 },
  { name: "ldrsh x4", bits: 16, signed: true, to: 64 },
  { name: "ldrsh w4", bits: 16, signed: true, to: 32 },
  { name: "ldrsw x4", bits: 32, signed: true, to: 64 },
  { name: "ldrb w4", bits: 8, signed: false, to: 32 },
  { name: "ldrh w4", bits: 16, signed: false, to: 32 },
  { name: "ldr w4", bits: 32, signed: false, to: 32 },
  { name: "ldr x4", bits: 64, signed: false, to: 64 },
];

function run(load: Load, c: Checks, options: SelftestOptions): void {
  const g = new GuestVm(options);
  g.boot();
  g.map(MMIO, MMIO, 1, true);
  g.start();
  const ops = new GuestOps(g);
  const kept = g.defaults.kvm.mmioSignExtend === "kept";
  for (const sign of [false, true]) {
    const data = BigInt.asUintN(load.bits, sign ? 0xfedcba9887868584n | (1n << BigInt(load.bits - 1)) : 0x7766554433221100n >> 1n);
    const e = ops.run([`${load.name}, [x0]`], MMIO);
    c.expect("exit", "MMIO", e.kind === "exit" ? e.result.exit.reason : e.kind);
    g.vcpu.answerMmio(data);
    const done = g.run();
    const extended = load.signed && kept ? BigInt.asUintN(load.to, BigInt.asIntN(load.bits, data)) : data;
    const what = load.signed && sign ? (kept ? "sign-extended" : "not sign-extended (lost until v7.2)") : "as it is";
    c.expect(`${load.bits} bits, ${sign ? "top bit set" : "top bit clear"}: ${what}`, extended, done.kind === "report" ? done.data : -1n);
  }
}

export const mmioSignExt: Selftest = {
  name: "mmio_sign_ext",
  title: "sign extension of emulated loads, as the release does it",
  cases: LOADS.map((l): Case => ({ name: l.name.replace(" ", " to ").replace("4", ""), run: (c, o) => run(l, c, o) })),
};
