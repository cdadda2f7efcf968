/** The one line that says how a run ended. */
import { low32, syndromeText } from "../trace/remarks.js";
import type { Outcome, Step } from "./result.js";
import { FAULTS, LATE_WRITES, type Cell } from "./tally.js";

/**
 * In order: the host crash; what the last guest block came to where that was not its end; else the
 * number of expectations that were met.
 */
export function verdictOf(
  name: string,
  crash: { readonly function: string; readonly reason: string } | undefined,
  steps: readonly Step[],
  outcomes: readonly Outcome[],
  row: readonly Cell[],
): string {
  const failed = outcomes.filter((o) => o.status === "failed");
  const tail = failed.length > 0 ? ` (${failed.length} expectation${failed.length > 1 ? "s" : ""} failed)` : "";
  if (crash !== undefined) return `${name}: host crash in ${crash.function}: ${crash.reason}${tail}`;
  const last = steps.findLast((s) => s.agent.startsWith("vcpu") && s.result !== "");
  const isLast = last !== undefined && steps.findLast((s) => s.agent.startsWith("vcpu")) === last;
  if (isLast) {
    const injected = last.events.findLast((e) => e.event.startsWith("inject_"));
    const fault = last.events.findLast((e) => e.event === "kvm_guest_fault");
    if (injected !== undefined) {
      const what =
        injected.event === "inject_sea"
          ? Number(injected["iabt"]) === 1
            ? "prefetch abort"
            : "data abort"
          : (INJECTED[injected.event.slice(7)] ?? injected.event);
      return `${name}: ${what} injected into the guest${fault === undefined ? "" : ` at ipa 0x${Number(fault["ipa"]).toString(16)}`}${tail}`;
    }
    const exception = /^-> exception .*esr=0x([0-9a-f]+)/.exec(last.result);
    if (exception !== null) return `${name}: guest exception: ${syndromeText(low32(`0x${exception[1]!}`))}${tail}`;
    if (last.result.startsWith("-> "))
      return `${name}: ${last.agent} ${last.result.slice(3).replace(/^E/, "KVM_RUN failed with E")}${tail}`;
  }
  const met = outcomes.filter((o) => o.status === "met").length;
  if (failed.length > 0) return `${name}: ${failed.length} of ${met + failed.length} expectations failed`;
  // From the row: a step keeps its first events only.
  const counted = (label: string): number => Number(row.findLast((c) => c.label === label)?.value ?? 0);
  const faults = counted(FAULTS);
  const late = counted(LATE_WRITES);
  const lateText = late === 0 ? "" : `, ${late} write${late === 1 ? "" : "s"} from before a reset arrived after it`;
  return `${name}: ran to its end, ${met} expectation${met === 1 ? "" : "s"} met, ${faults} guest fault${faults === 1 ? "" : "s"}${lateText}`;
}

const INJECTED: Readonly<Record<string, string>> = {
  pabt: "prefetch abort",
  dabt: "data abort",
  vabt: "SError",
  size: "address size fault",
  undef: "undefined instruction",
};
