/**
 * The four conditions under which a device may be given to another user once its reset has returned, as Jason Gunthorpe named
 * them in Oct 2023. The fabric looks at each when the reset is done (event device_reclaim); what comes later than that breaks
 * the last one. Without modelled buffers nothing waits anywhere, and nobody asks.
 */
import type { Invariant } from "./invariant.js";

const SOURCE = "Jason Gunthorpe, Catalin Marinas, Re: [PATCH v1 2/2] KVM: arm64: allow the VM to select DEVICE_* and NORMAL_NC, Oct 2023";

/** @param field number of the condition's field in device_reclaim */
const condition = (name: string, field: number, statement: string, broken: string): Invariant => ({
  name,
  statement,
  source: SOURCE,
  on: {
    device_reclaim: (w, _agent, ring, at) =>
      ring[at + field] === 0 ? `${w.machine.sim.bus.nameOf(ring[at]!)} was reset for another user, and ${broken}` : undefined,
  },
});

export const noPageTableReference = condition(
  "no-page-table-reference",
  1,
  "When a device has been reset for another user, no descriptor of any table points into its memory.",
  "a descriptor still points into its memory",
);
export const noBufferedWrite = condition(
  "no-buffered-write",
  2,
  "Then no CPU has a write for it in a buffer.",
  "a CPU still has a write for it in a buffer",
);
export const noTransactionInFlight = condition(
  "no-transaction-in-flight",
  3,
  "Then nothing is on its way to it in the interconnect and the fabric.",
  "a write is still on its way to it",
);
const clean = condition(
  "clean-post-reset-state",
  4,
  "Then it is as its reset left it, and no write from before the reset arrives later.",
  "a write from before the reset has arrived after it",
);
export const cleanPostResetState: Invariant = {
  ...clean,
  on: {
    ...clean.on,
    late_write: (w, _agent, ring, at) =>
      `${ring[at + 2]!} bytes that CPU ${ring[at + 3]!} wrote before the reset of ${w.machine.sim.bus.nameOf(ring[at]!)} arrived after it`,
  },
};

export const RECLAIM: readonly Invariant[] = [noPageTableReference, noBufferedWrite, noTransactionInFlight, cleanPostResetState];
