/** The races of docs/races.md: which variants of which script are convicted, by which invariant, and which are cleared. */
export interface Race {
  /** Name in scenarios/, without .guest. */
  readonly script: string;
  /** Variant -> the invariant that breaks. */
  readonly convicted: Readonly<Record<string, string>>;
  readonly cleared: readonly string[];
  /** Most preemptions; unlimited if absent. */
  readonly bound?: number;
  /** Those to ask; all if absent. */
  readonly invariants?: readonly string[];
  /** Too long for every run of the tests. */
  readonly long?: true;
}

const AGREES = "stage2-agrees-with-host";
const RANGE = "invalidated-range-unusable";
const FREED = "no-freed-table";
const DISABLED = "no-access-while-disabled";

export const RACES: readonly Race[] = [
  { script: "2023-vma-lookup-race", convicted: { "v6.1": AGREES }, cleared: ["v6.4", "v6.8"] },
  { script: "2016-break-before-make-race", convicted: { "v4.0": "break-before-make" }, cleared: ["v4.10", "v5.4"] },
  { script: "2020-disabled-bar-race", convicted: { "v5.4": DISABLED, "v5.8": DISABLED }, cleared: ["v5.14", "v6.12"], bound: 3 },
  { script: "2020-reset-race", convicted: { "v5.4": DISABLED }, cleared: ["v5.8", "v5.14", "v6.12"], bound: 3 },
  { script: "2015-vma-walk-race", convicted: { "v4.0": "lock-held" }, cleared: ["v4.20"] },
  { script: "2016-multiplexed-vcpus-race", convicted: { "v4.0": "no-other-vcpus-translation" }, cleared: ["v4.10", "v6.12"] },
  { script: "2017-stage2-free-race", convicted: { "v4.10": "lock-held" }, cleared: ["v4.20", "v5.4", "v6.12"] },
  { script: "2020-ioeventfd-race", convicted: { "v5.8": DISABLED }, cleared: ["v5.11", "v5.14", "v6.12"] },
  { script: "2019-moved-buffer-race", convicted: { "v5.4": "no-false-efault", "v5.8": "no-false-efault" }, cleared: [] },
  { script: "2021-mte-lock-race", convicted: { "v5.14": "no-deadlock" }, cleared: ["v6.1"] },
  { script: "2023-mte-vma-race", convicted: { "v6.1": "guest-mapping-as-specified" }, cleared: ["v6.4", "v6.12"] },
  { script: "2020-concurrent-vfio-faults", convicted: { "v5.12": "host-alive" }, cleared: ["v5.14"] },
  { script: "2020-bar-read-race", convicted: { "v5.8": "lock-order", "v5.11": DISABLED }, cleared: ["v5.14"] },
  { script: "2020-poison-vma-race", convicted: { "v5.4": "host-alive" }, cleared: ["v5.6", "v5.14"] },
  { script: "2024-freed-table-race", convicted: { "v6.8": "no-freed-table" }, cleared: ["v6.4", "v6.9", "v6.12"] },
  {
    script: "2024-level-hint-race",
    convicted: { "v5.14": FREED, "v6.4": FREED, "v6.8": FREED },
    cleared: ["v5.8", "v6.1.192", "v6.9", "v6.12"],
  },
  {
    script: "2023-user-table-walk-race",
    invariants: ["host-alive"],
    convicted: { "v6.1": "host-alive", neither: "host-alive", "irqs-off-without-ipi": "host-alive" },
    cleared: ["only-irqs-off"],
  },
  {
    script: "2023-user-table-walk-race",
    convicted: { "v6.1": AGREES },
    cleared: ["v6.1.192", "v6.4", "v6.9", "v6.12", "v7.2.12", "only-event"],
  },
  { script: "2022-unlinked-table-race", convicted: { "at-once": "host-alive", stale: "host-alive" }, cleared: ["v6.1", "v6.4", "v6.12"] },
  { script: "2018-refault-livelock", invariants: ["no-livelock"], convicted: { "v4.10": "no-livelock" }, cleared: ["v4.20", "v5.4"] },
  { script: "2026-pfnmap-block-race", convicted: { "v6.8": AGREES, "v6.18.2": AGREES }, cleared: ["v6.1.192", "v6.12.117", "v7.2.12"] },
  {
    script: "2019-device-page-race",
    convicted: { "v5.4": "no-false-efault", "v5.5": "no-false-efault", "v5.8": "no-false-efault" },
    cleared: ["v5.11", "v5.14"],
  },
  { script: "2020-eager-untracked-bar-race", convicted: { "v5.8": DISABLED, "v5.12": DISABLED }, cleared: ["v5.14"], bound: 3 },
  { script: "2024-change-pte-race", convicted: { "v5.4": "no-freed-page", "v6.8": "no-freed-page" }, cleared: ["v6.12"] },
  { script: "2012-invalidate-retry-race", convicted: { unchecked: RANGE }, cleared: ["checked", "old"] },
  { script: "2012-kernel-threads-race", convicted: { unchecked: RANGE }, cleared: ["checked", "old"], long: true },
  { script: "2012-reclaim-race", convicted: { unchecked: RANGE }, cleared: ["checked", "old"] },
  { script: "2021-fork-race", convicted: { unchecked: RANGE }, cleared: ["checked", "old"] },
  { script: "2023-collapse-race", convicted: { unchecked: RANGE }, cleared: ["checked", "v6.9", "v5.4"] },
  { script: "2025-guest-memfd-race", convicted: { unchecked: "no-freed-page" }, cleared: ["v6.18.2", "v7.2.12"] },
  { script: "2015-dirty-log-race", convicted: { unflushed: "no-lost-write" }, cleared: ["flushed", "old"] },
  { script: "2022-parallel-permission-faults", convicted: {}, cleared: ["v6.1", "v6.4", "v6.8", "v6.12"] },
  {
    script: "2023-nc-reset-race",
    convicted: { "not-zapped": "no-page-table-reference", interconnect: "no-transaction-in-flight" },
    cleared: ["zapped"],
    bound: 2,
  },
  { script: "2013-memslot-delete-race", convicted: {}, cleared: ["v5.4", "v6.12"] },
];
