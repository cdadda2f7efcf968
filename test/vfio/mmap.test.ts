import { describe, expect, test } from "vitest";
import { AT, host, MAP_PRIVATE, MIB, NIC } from "./harness.js";

const EINVAL = -22;
const EBUSY = -16;

describe("region info", () => {
  test("the recorded devices report the regions that were recorded", () => {
    const h = host("v6.12");
    const info = (bdf: string) => {
      const dev = h.open(bdf);
      return [0, 1, 2, 3, 4, 5, 6, 7]
        .map((i) => h.vfio.regionInfo(dev, i))
        .flatMap((r) => (r.size > 0 ? [[r.index, r.size, r.flags]] : []));
    };
    expect(info("00:04.0")).toEqual([
      [0, 0x100000, 7],
      [7, 0x100, 3],
    ]);
    expect(info("00:05.0")).toEqual([
      [0, 0x1000, 7],
      [1, 0x100, 3],
      [2, 0x1000000, 7],
      [7, 0x100, 3],
    ]);
    expect(info("00:06.0")).toEqual([
      [0, 0x100, 7],
      [2, 0x1000000, 7],
      [7, 0x100, 3],
    ]);
  });

  test("VGA, unknown indexes and a structure that is too small are refused", () => {
    const h = host("v6.12");
    const dev = h.open("00:06.0");
    expect([8, 9, -1].map((i) => h.vfio.regionInfo(dev, i).ret)).toEqual([EINVAL, EINVAL, EINVAL]);
    expect(h.vfio.regionInfo(dev, 0, 31).ret).toBe(EINVAL);
  });

  test("a BAR below the page size is mappable from v4.10 on, if it starts a page of its own", () => {
    const two = (b: number) => ({ bdf: `0000:00:0${b}.0`, bars: [{ index: 0, size: 0x100 }] });
    const flags = (kernel: string) => {
      const h = host(kernel, [two(1), two(2)]);
      return [h.open("00:01.0"), h.open("00:02.0")].map((d) => h.vfio.regionInfo(d, 0).flags & 4);
    };
    expect(flags("v6.12")).toEqual([0, 0]);
    expect(host("v4.0").vfio.regionInfo(2, 0).flags & 4).toBe(0);
    expect(host("v4.10").vfio.regionInfo(2, 0).flags & 4).toBe(4);
  });

  test("the MSI-X BAR is announced as the release does it, and argsz grows where the capability does not fit", () => {
    const info = (kernel: string, argsz?: number) => host(kernel, [NIC]).vfio.regionInfo(0, 0, argsz);
    expect(info("v4.0").capabilities).toEqual([]);
    expect(info("v4.10").capabilities).toEqual([
      {
        id: 1,
        areas: [
          { offset: 0, size: 0x2000 },
          { offset: 0x3000, size: 0x1000 },
        ],
      },
    ]);
    expect(info("v6.12").capabilities).toEqual([{ id: 3 }]);
    expect(info("v6.12").flags).toBe(15);
    expect([info("v6.12", 32).argsz, info("v6.12", 32).capOffset, info("v6.12", 32).ret]).toEqual([40, 0, 0]);
  });
});

describe("mmap", () => {
  test("is refused for private mappings, other regions, unmappable BARs and ranges beyond the BAR", () => {
    for (const kernel of ["v4.0", "v5.4", "v5.8", "v6.1", "v6.12", "v7.2"]) {
      const h = host(kernel);
      const dev = h.open("00:05.0");
      expect(h.mmap(dev, 2, 0, 4096, AT, MAP_PRIVATE)).toBe(EINVAL);
      expect([6, 7, 8, 9, 100].map((i) => h.mmap(dev, i, 0, 4096))).toEqual([EINVAL, EINVAL, EINVAL, EINVAL, EINVAL]);
      expect(h.mmap(dev, 1, 0, 4096)).toBe(EINVAL);
      expect(h.mmap(dev, 3, 0, 4096)).toBe(EINVAL);
      expect(h.mmap(dev, 2, 0, 16 * MIB + 4096)).toBe(EINVAL);
      expect(h.mmap(dev, 2, 16 * MIB - 4096, 8192)).toBe(EINVAL);
      expect(h.mmap(dev, 2, 16 * MIB - 4096, 4096)).toBe(AT);
    }
  });

  test("a BAR that another host driver owns is busy", () => {
    const h = host("v6.12");
    const dev = h.open("00:06.0");
    h.vfio.devices.setBusy(dev, 2, true);
    expect(h.mmap(dev, 2, 0, 4096)).toBe(EBUSY);
    h.vfio.devices.setBusy(dev, 2, false);
    expect(h.mmap(dev, 2, 0, 4096)).toBe(AT);
  });

  test("v7.2 asks for the BARs at open: who is busy then stays busy", () => {
    const h = host("v7.2");
    h.vfio.devices.setBusy(2, 2, true);
    const dev = h.open("00:06.0");
    h.vfio.devices.setBusy(dev, 2, false);
    expect(h.mmap(dev, 2, 0, 4096)).toBe(EBUSY);
  });

  test("the pages of the MSI-X table are refused until v4.15 and mappable later", () => {
    for (const [kernel, ret] of [
      ["v4.0", EINVAL],
      ["v4.10", EINVAL],
      ["v4.20", AT],
      ["v6.12", AT],
    ] as const) {
      const h = host(kernel, [NIC]);
      const dev = h.open(NIC.bdf);
      expect([kernel, h.mmap(dev, 0, 0, 0x4000)]).toEqual([kernel, ret]);
      expect(h.mmap(dev, 0, 0x3000, 0x1000)).toBe(AT);
    }
  });

  test("memory enable is not tested at mmap", () => {
    const h = host("v6.12");
    const dev = h.open("00:06.0");
    h.configWrite(dev, 4, 2, 0);
    expect(h.mmap(dev, 2, 0, 4096)).toBe(AT);
  });

  test("the VMA gets the flags, the offset and the entries of its era", () => {
    const vma = (kernel: string) => {
      const h = host(kernel);
      const dev = h.open("00:06.0");
      h.mmap(dev, 2, 0x1000, 0x4000);
      const v = h.mm.vmas.findVma(0, AT);
      const [map] = h.mm.maps(0);
      return [
        (h.mm.vmas.pgoff(v) * 4096).toString(16),
        h.mapped(AT, AT + 0x4000),
        map!.flags.includes("ALLOW_ANY_UNCACHED"),
        map!.pageProt,
      ];
    };
    expect(vma("v5.4")).toEqual(["8001001000", 4, false, "noncached"]);
    expect(vma("v5.8")).toEqual(["8001001000", 0, false, "noncached"]);
    expect(vma("v6.8")).toEqual(["8001001000", 0, false, "noncached"]);
    expect(vma("v6.9")).toEqual(["8001001000", 0, true, "noncached"]);
    expect(vma("v6.12")).toEqual(["20000001000", 0, true, "noncached"]);
  });

  test("every era marks the VMA as I/O of page frames, not expanded and not dumped", () => {
    for (const kernel of ["v4.0", "v5.8", "v6.12"]) {
      const h = host(kernel);
      h.mmap(h.open("00:06.0"), 2, 0, 4096);
      expect(h.mm.maps(0)[0]!.flags).toEqual(expect.arrayContaining(["IO", "PFNMAP", "DONTEXPAND", "DONTDUMP", "SHARED"]));
    }
  });
});
