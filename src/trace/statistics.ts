/**
 * Statistics of a run, counted as it goes: exits by reason with their times, as `perf kvm stat` accounts
 * them (from kvm_exit to the next kvm_entry of that vCPU), trace points, and the counters that KVM shows in
 * debugfs. What no kernel counts stands apart, under names that begin with faultline_.
 */
import { eventCatalogue, findEvent, RECORD_WORDS, type EventDecl, type RecordSink } from "../sim/events.js";
import { exitName } from "./spans.js";

export interface ExitStatistics {
  readonly reason: string;
  readonly samples: number;
  /** Nanoseconds of virtual time. */
  readonly total: number;
  readonly min: number;
  readonly max: number;
  readonly mean: number;
  /** Relative standard error of the mean, per cent, as perf prints it. */
  readonly relativeStddev: number;
}
export interface RunStatistics {
  /** Most frequent first. */
  readonly exits: readonly ExitStatistics[];
  readonly samples: number;
  readonly time: number;
  /** Trace points of system kvm, by name. */
  readonly tracepoints: Readonly<Record<string, number>>;
  /** /sys/kernel/debug/kvm: names of the kernel. */
  readonly debugfs: Readonly<Record<string, number>>;
  readonly faultline: Readonly<Record<string, number>>;
}

const KVM_EXIT_DEBUG = 4;
const KVM_EXIT_MMIO = 6;
const KVM_EXIT_INTR = 10;

interface Reason {
  samples: number;
  total: number;
  min: number;
  max: number;
  mean: number;
  squares: number;
}

/** Events that faultline_ counters count. */
const OURS: Readonly<Record<string, string>> = {
  faultline_guest_faults: "kvm_guest_fault",
  faultline_mmu_retries: "mmu_retry",
  faultline_invalidations: "mmu_notifier_invalidate_range_start",
  faultline_stage2_entries: "stage2_entry",
  faultline_host_entries: "host_entry",
  faultline_tlbi: "tlbi",
  faultline_dsb: "dsb",
  faultline_tlb_misses: "tlb_miss",
  faultline_exceptions_injected: "exception_injected",
  faultline_lock_contended: "lock_contended",
  faultline_stale_translations: "stale_translation",
  faultline_break_before_make_violations: "break_before_make_violation",
};

const idOf = (name: string): number => findEvent(name)?.id ?? -1;

export class Statistics {
  private readonly counts = new Float64Array(eventCatalogue().length);
  private readonly reasons = new Map<string, Reason>();
  /** Per agent: an exit that waits for its entry. */
  private readonly pending: ({ readonly reason: string; readonly time: number } | undefined)[] = [];
  /** Exits at the end of a guest block, which are Faultline's. */
  private blockEnds = 0;
  private mmioUser = 0;
  private mmioAll = 0;
  private signals = 0;
  private wfe = 0;
  readonly take: RecordSink;

  constructor() {
    const [entry, exit, user, mmio, wfx] = ["kvm_entry", "kvm_exit", "kvm_userspace_exit", "kvm_mmio", "kvm_wfx_arm64"].map(idOf);
    this.take = (ring, from, to) => {
      for (let at = from * RECORD_WORDS; at < to * RECORD_WORDS; at += RECORD_WORDS) {
        const id = ring[at + 3]!;
        this.counts[id]!++;
        if (id === entry) this.entered(ring[at + 2]!, ring[at + 1]!);
        else if (id === exit) this.pending[ring[at + 2]!] = { reason: exitName(ring[at + 4]!, ring[at + 5]!), time: ring[at + 1]! };
        else if (id === user) this.userspace(ring[at + 2]!, ring[at + 4]!, ring[at + 5]!);
        // The response to a read (type 1) is the same access a second time.
        else if (id === mmio && ring[at + 4] !== 1) this.mmioAll++;
        else if (id === wfx) this.wfe += ring[at + 6]!;
      }
    };
  }

  private entered(agent: number, time: number): void {
    const p = this.pending[agent];
    if (p === undefined) return;
    this.pending[agent] = undefined;
    const took = time - p.time;
    let r = this.reasons.get(p.reason);
    if (r === undefined) this.reasons.set(p.reason, (r = { samples: 0, total: 0, min: Infinity, max: 0, mean: 0, squares: 0 }));
    r.samples++;
    r.total += took;
    r.min = Math.min(r.min, took);
    r.max = Math.max(r.max, took);
    const delta = took - r.mean;
    r.mean += delta / r.samples;
    r.squares += delta * (took - r.mean);
  }

  private userspace(agent: number, reason: number, errno: number): void {
    if (errno < 0) return;
    if (reason === KVM_EXIT_MMIO) this.mmioUser++;
    else if (reason === KVM_EXIT_INTR) this.signals++;
    else if (reason === KVM_EXIT_DEBUG) {
      this.pending[agent] = undefined;
      this.blockEnds++;
    }
  }

  private count(name: string): number {
    const id = idOf(name);
    return id < 0 ? 0 : this.counts[id]!;
  }

  /** What was counted so far. */
  result(): RunStatistics {
    const exits = [...this.reasons]
      .map(([reason, r]) => ({
        reason,
        samples: r.samples,
        total: r.total,
        min: r.min,
        max: r.max,
        mean: r.total / r.samples,
        relativeStddev: r.samples < 2 || r.mean === 0 ? 0 : (100 * Math.sqrt(r.squares / (r.samples - 1) / r.samples)) / r.mean,
      }))
      .sort((a, b) => b.samples - a.samples || (a.reason < b.reason ? -1 : 1));
    const kvm = eventCatalogue().filter((e: EventDecl) => e.system === "kvm" && this.counts[e.id]! > 0);
    return {
      exits,
      samples: exits.reduce((n, e) => n + e.samples, 0),
      time: exits.reduce((n, e) => n + e.total, 0),
      tracepoints: Object.fromEntries(kvm.map((e) => [e.name, this.counts[e.id]!])),
      debugfs: {
        exits: this.count("kvm_exit") - this.blockEnds,
        hvc_exit_stat: this.count("kvm_hvc_arm64"),
        mmio_exit_kernel: this.mmioAll - this.mmioUser,
        mmio_exit_user: this.mmioUser,
        signal_exits: this.signals,
        wfe_exit_stat: this.wfe,
        wfi_exit_stat: this.count("kvm_wfx_arm64") - this.wfe,
      },
      faultline: Object.fromEntries(Object.entries(OURS).map(([name, event]) => [name, this.count(event)])),
    };
  }
}

/** The events that are counted, for a test that each is declared. */
export const COUNTED_EVENTS = Object.values(OURS);
