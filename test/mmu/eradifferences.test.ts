/** Every decision of the host's memory management: a script whose trace differs by it between two eras, or where else that is shown. */
import { describe, it } from "vitest";
import { expectComplete, expectDifference, type Shown } from "../conform/differs.js";

const SHOWN: Readonly<Record<string, Shown>> = {
  hostTlbiRange: ["anon", "v5.11", "false"],
  notifierChangePte: ["anon", "v6.12", "true"],
  vmaSplitEvent: ["anon", "v4.20", "hugeOnly"],
  munmapStartCutNewPiece: ["bar", "v6.8", "upper"],
  munmapEndCutNewPiece: ["bar", "v6.4", "lower"],
  munmapDowngrade: ["anon", "v4.20", "false"],
  mprotectNotifierSpan: ["bars", "v6.12", "pmd"],
  hugeZeroPageWrite: ["thp", "v6.13", "split"],
  hugePfnmap: ["bar", "v6.12", "false"],
  perVmaLock: ["anon", "v6.4", "false"],
  madviseFree: ["anon", "v4.10", "false"],
  madviseWipeOnFork: ["anon", "v4.20", "false"],
  madvisePopulate: ["anon", "v5.14", "false"],
  madviseCollapse: ["thp", "v6.1", "false"],
  madviseDontneedHugetlb: ["hugetlb", "v6.1", "false"],
  madviseCold: ["anon", "v5.4", "false"],
  forkOpen: ["bar", "v6.9", "afterCopy"],
  forkHugetlb: ["hugetlb", "v6.1", "copied"],
  userMte: ["anon", "v5.11", "false"],
  mprotectRestoresWrite: ["anon", "v6.1", "never"],
  thpSplitDirty: ["thp", "v6.1.192", "writable"],
  hugetlbZapAnnouncement: ["hugetlb", "v6.4", "again"],
  thpCow: ["thp", "v5.8", "copyHuge"],
  cowReuse: ["thp", "v5.11", "mapcount"],
  gupReadBreaksCow: ["anon", "v5.8", "false"],
  followPfn: ["bar", "v6.12", "pageOnly"],
};

/** Shown by tests and scenarios of their own, or not to be seen in a trace. */
const OTHERS: Readonly<Record<string, string>> = {
  notifierClearYoung: "test/kvm/notifier.test.ts",
  singlePageReclaim: "test/mmu/moving.test.ts",
  notifierEventTypes: "the reason travels with the range, but no KVM of these eras reads it: nothing is done with it",
  anonVmaMerge: "test/conform/calldifferences.test.ts",
  anonMmapThpAligned: "test/conform/calldifferences.test.ts",
  mapFixedNoreplace: "test/mmu/decisions.test.ts",
  madviseHugepageSpecial: "test/mmu/decisions.test.ts",
  collapseInsideBlock: "test/fuzz/mended.test.ts",
  cowReuseLarge: "test/fuzz/mended.test.ts",
  mmapMergeFirst: "test/fuzz/mended.test.ts",
  madviseDoforkRefused: "test/fuzz/mended.test.ts",
  ptReclaim: "test/mmu/decisions.test.ts",
  mremapDontunmap: "test/conform/calldifferences.test.ts",
  mremapDontunmapFiles: "test/mmu/decisions.test.ts",
  mremapZeroLengthPrivate: "test/mmu/decisions.test.ts",
  mremapHugetlb: "test/mmu/decisions.test.ts",
  collapseNeedsWritable: "test/conform/calldifferences.test.ts",
  collapsePageCount: "test/mmu/collapsefile.test.ts",
  filePmdNohugepage: "test/fuzz/mended.test.ts",
  fileSplitAnnouncement: "test/fuzz/mended.test.ts",
  prefaultedEntries: "test/mmu/faultaround.test.ts",
  fileCollapseHoles: "test/mmu/collapsefile.test.ts",
  fileCollapseNotifies: "test/mmu/collapsefile.test.ts",
  fileCollapseTable: "scenarios/2023-user-table-walk-race.guest",
  userfaultfd: "test/selftest/pagefault.test.ts",
  userfaultfdWp: "test/mmu/userfaultfd.test.ts",
  userfaultfdMinor: "test/conform/calldifferences.test.ts",
  madviseDontcache: "scenarios/2015-uncached-framebuffer.guest",
  vmForceCached: "scenarios/2025-cacheable-pfnmap.guest",
  perVmaLockFiles: "test/conform/calldifferences.test.ts",
};

describe("decisions of the host's memory management", () => {
  it("are all in one of the tables", () => expectComplete("mm", SHOWN, OTHERS));
  it.each(Object.entries(SHOWN))("%s", (name, shown) => expectDifference(name, shown));
});
