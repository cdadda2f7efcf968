import { describe, expect, it } from "vitest";
import { PROT_R, PROT_W, PROT_X } from "../../src/kvm/trace.js";
import { Fixture, MIB, RAM } from "./tablesfixture.js";

const RW = PROT_R | PROT_W;

/** Two 2 MiB blocks and one executable page, as in recordings/v6.18.2/max/h_thp.rec. */
function filled(era: string): Fixture {
  const f = new Fixture(era);
  f.install(0x4000_0000, 4096, RAM, RW | PROT_X);
  f.install(0x8000_0000, 4 * MIB, RAM + 4 * MIB, RW);
  return f;
}

describe("the kernel's dump of stage 2", () => {
  it("v6.18 prints what was recorded", () => {
    expect(filled("v6.18.2").dump.ptdump(0)).toEqual([
      "---[ Guest IPA ]---",
      "0x0000000000000000-0x0000000040000000           1G 1",
      "0x0000000040000000-0x0000000040001000           4K 3   R W x  AF",
      "0x0000000040001000-0x0000000040200000        2044K 3",
      "0x0000000040200000-0x0000000080000000        1022M 2",
      "0x0000000080000000-0x0000000080400000           4M 2   R W NX AF BLK",
      "0x0000000080400000-0x00000000c0000000        1020M 2",
    ]);
  });

  it("v6.12 and v6.17 write X for execute-never; v7.0 both kinds of execute; before v6.12 there is none", () => {
    const lines = (era: string) =>
      filled(era)
        .dump.ptdump(0)
        .filter((l) => l.includes(" R "));
    expect(lines("v6.17")).toEqual([
      "0x0000000040000000-0x0000000040001000           4K 3   R W   AF",
      "0x0000000080000000-0x0000000080400000           4M 2   R W X AF BLK",
    ]);
    expect(lines("v7.2.12")).toEqual([
      "0x0000000040000000-0x0000000040001000           4K 3   R W px ux  AF",
      "0x0000000080000000-0x0000000080400000           4M 2   R W PXNUXN AF BLK",
    ]);
    expect(filled("v6.9").dump.ptdump(0)).toEqual([]);
  });

  it("never prints the last range, and merges by permissions alone", () => {
    const f = new Fixture("v6.18.2");
    expect(f.dump.ptdump(0)).toEqual(["---[ Guest IPA ]---"]);
    f.install(0x8000_0000, 2 * MIB, RAM, RW);
    f.install(0x8020_0000, 2 * MIB, RAM + 8 * MIB, PROT_R);
    expect(f.dump.ptdump(0).slice(2)).toEqual([
      "0x0000000080000000-0x0000000080200000           2M 2   R W NX AF BLK",
      "0x0000000080200000-0x0000000080400000           2M 2   R   NX AF BLK",
      "0x0000000080400000-0x00000000c0000000        1020M 2",
    ]);
  });

  it("prints the last range since v7.3, up to the end of the IPA space", () => {
    const f = new Fixture("v7.3.4");
    expect(f.dump.ptdump(0)).toEqual(["---[ Guest IPA ]---", "0x0000000000000000-0x0000010000000000           1T 1"]);
    expect(filled("v7.3.4").dump.ptdump(0)).toEqual([
      ...filled("v7.2.12").dump.ptdump(0),
      "0x00000000c0000000-0x0000010000000000        1021G 1",
    ]);
    const last = (era: string) => {
      const full = new Fixture(era);
      full.install(2 ** 40 - 2 * MIB, 2 * MIB, RAM, RW);
      return full.dump.ptdump(0).at(-1);
    };
    expect(last("v7.2.12")).toBe("0x000000ffc0000000-0x000000ffffe00000        1022M 2");
    expect(last("v7.3.4")).toBe("0x000000ffffe00000-0x0000010000000000           2M 2   R W PXNUXN AF BLK");
  });

  it("tells IPA bits and levels", () => {
    const f = new Fixture("v6.12");
    expect([f.dump.ipaRange(0), f.dump.stage2Levels(0)]).toEqual(["40", "3"]);
  });
});
