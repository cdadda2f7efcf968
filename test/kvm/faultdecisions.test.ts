/** The decisions of the fault path as data: every one answers in every era, with a source and a legal value. */
import { describe, expect, it } from "vitest";
import { answer, ERAS, eraRow } from "../../src/eras.js";
import { faultPathDecisions, kvmDecisions } from "../../src/kvm/decisions.js";
import type { Decision } from "../../src/sim/decisions.js";

const all: readonly (readonly [string, Decision])[] = Object.entries(faultPathDecisions);

describe("every decision of the fault path", () => {
  it("answers in every era", () => {
    for (const [name, d] of all) for (const e of ERAS) expect(answer(d, e.name), `${name} in ${e.name}`).toBeDefined();
  });
  it("has legal values, known eras and a source at every change", () => {
    for (const [name, d] of all) {
      for (const [era, [value, source]] of Object.entries(d.history)) {
        expect(d.values, `${name} ${era}`).toContain(value);
        expect(
          ERAS.some((e) => e.name === era),
          `${name}: ${era} is an era`,
        ).toBe(true);
        expect(source.length, name).toBeGreaterThan(3);
      }
      expect(d.doc.length, name).toBeGreaterThan(10);
    }
  });
  it("changes at every entry: none repeats what its base says", () => {
    for (const [name, d] of all) {
      for (const e of ERAS) {
        const entry = d.history[e.name];
        if (entry === undefined || e.base === undefined) continue;
        expect(answer(d, e.base)?.value, `${name} in ${e.name}`).not.toBe(entry[0]);
      }
    }
  });
  it("is spread into the room's decisions without a clash", () => {
    for (const [name, d] of all) expect((kvmDecisions as Record<string, Decision>)[name]).toBe(d);
  });
});

describe("the row of an era folds along its base chain", () => {
  const row = (era: string) => eraRow(era).kvm;
  it("v5.4 and v5.5 differ by the Dec 2019 fix alone", () => {
    const a = row("v5.4") as Record<string, unknown>;
    const b = row("v5.5") as Record<string, unknown>;
    expect(Object.keys(a).filter((k) => a[k] !== b[k])).toEqual([
      "execNoSlotPath",
      "pfnmapBlockSize",
      "execOnDevice",
      "errorLeaksPage",
      "dcacheDevice",
    ]);
  });
  it("v5.10.223 is v5.10 with its backports; v5.11 is not", () => {
    const changed = (era: string) => {
      const [a, b] = [eraRow("v5.10"), eraRow(era)];
      const rooms = [
        [a.mm, b.mm],
        [a.vfio, b.vfio],
        [a.kvm, b.kvm],
      ] as unknown as readonly (readonly Record<string, unknown>[])[];
      return rooms.flatMap(([was, is]) => Object.keys(was!).filter((k) => was![k] !== is![k]));
    };
    const backports = [
      ...["mremapZeroLengthAnnounced", "rmapRangeEnd", "fileCollapseNotifies", "fileCollapseTable", "truncatedPoison", "holePoison"],
      ...["vfioRegionLookup", "vfioTrackedFault"],
      ...["writeFault", "pfnmapWritable", "pfnmapReference", "ipaDefaultBelowLimit", "walkStep", "contextFlushIcache", "memslotIpaLimit"],
    ];
    expect(changed("v5.10.223")).toEqual(backports);
    expect(changed("v5.11").filter((k) => backports.includes(k))).toEqual([]);
  });
  it("v6.1.192 is v6.1 with its backports", () => {
    const d = row("v6.1.192");
    expect([d.pfnmapBlockSize, d.seqSnapshot, d.writeFault, d.faultLock, d.injectEsrUpper, d.deviceType]).toEqual([
      "page",
      "inside-mmap-lock",
      "permission-s1ptw",
      "read-for-logged-writes",
      "ones",
      "nGnRE",
    ]);
  });
  it("v6.12.117 is v6.12 with its backports; v6.13 is not", () => {
    const d = row("v6.12.117");
    expect([d.pfnmapBlockSize, d.thpAdjustDevices, d.mmioPendingException]).toEqual(["page", true, "skipped"]);
    const e = row("v6.13");
    expect([e.pfnmapBlockSize, e.thpAdjustDevices, e.mmioPendingException]).toEqual(["vma-arithmetic", false, "skipped"]);
  });
  it("no era has a proposed behaviour by itself", () => {
    for (const e of ERAS) {
      const d = row(e.name);
      expect([d.execNoSlot, d.cowPfnmap, d.pfnmapWriteRetry, d.eagerTranslation], e.name).toEqual([
        "inject-pabt",
        "allow",
        false,
        "vm-pgoff",
      ]);
      expect(d.execOnDevice, e.name).not.toBe("exit-to-user");
    }
  });
});
