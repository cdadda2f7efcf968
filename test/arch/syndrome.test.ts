import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  accessIss,
  dataAbort,
  decodeSyndrome,
  EC_DABT_LOW,
  EC_IABT_LOW,
  FSC_ACCESS_FLAG,
  FSC_ADDRESS_SIZE,
  FSC_ALIGNMENT,
  FSC_PERMISSION,
  FSC_TRANSLATION,
  fscAt,
  fscName,
  hpfarHi,
  hpfarLo,
  instructionAbort,
  ipaOfHpfar,
  ISS_CM,
  ISS_S1PTW,
  ISS_WNR,
} from "../../src/arch/syndrome.js";
import { hex } from "./rig.js";

describe("syndromes", () => {
  it("have the worked values of the references", () => {
    const data = (iss: number, fsc: number) => hex(dataAbort(EC_DABT_LOW, iss, fsc));
    expect(data(accessIss(2, false, 0, false, false), FSC_TRANSLATION | 3)).toBe("0x93800007");
    expect(data(accessIss(3, false, 2, true, false) | ISS_WNR, FSC_TRANSLATION | 1)).toBe("0x93c28045");
    expect(data(accessIss(0, true, 3, true, false), FSC_TRANSLATION | 2)).toBe("0x93238006");
    expect(data(ISS_WNR, FSC_TRANSLATION | 3)).toBe("0x92000047");
    expect(data(ISS_WNR, FSC_PERMISSION | 3)).toBe("0x9200004f");
    expect(data(ISS_S1PTW, FSC_TRANSLATION | 3)).toBe("0x92000087");
    expect(data(ISS_CM | ISS_WNR, FSC_TRANSLATION | 3)).toBe("0x92000147");
    expect(data(0, FSC_ACCESS_FLAG | 3)).toBe("0x9200000b");
    expect(data(accessIss(2, false, 3, false, false), FSC_TRANSLATION | 3)).toBe("0x93830007");
    expect(data(0, FSC_ALIGNMENT)).toBe("0x92000021");
    expect(hex(instructionAbort(EC_IABT_LOW, 0, FSC_TRANSLATION | 2))).toBe("0x82000006");
    expect(hex(instructionAbort(EC_IABT_LOW, 0, FSC_PERMISSION | 3))).toBe("0x8200000f");
  });

  it("of an instruction abort carry nothing of the access", () => {
    expect(hex(instructionAbort(EC_IABT_LOW, accessIss(3, true, 31, true, true) | ISS_WNR | ISS_CM | ISS_S1PTW, 5))).toBe("0x82000085");
  });

  it("come apart into what they were built from", () => {
    fc.assert(
      fc.property(
        fc.record({
          sas: fc.nat(3),
          sse: fc.boolean(),
          srt: fc.nat(31),
          sf: fc.boolean(),
          ar: fc.boolean(),
          wnr: fc.boolean(),
          level: fc.nat(3),
          kind: fc.constantFrom(FSC_TRANSLATION, FSC_ACCESS_FLAG, FSC_PERMISSION, FSC_ADDRESS_SIZE),
        }),
        (x) => {
          const d = decodeSyndrome(
            dataAbort(EC_DABT_LOW, accessIss(x.sas, x.sse, x.srt, x.sf, x.ar) | (x.wnr ? ISS_WNR : 0), fscAt(x.kind, x.level)),
          );
          expect(d).toMatchObject({
            ec: 0x24,
            ecName: "DABT_LOW",
            il: true,
            isv: true,
            size: 1 << x.sas,
            sse: x.sse,
            srt: x.srt,
            sf: x.sf,
            ar: x.ar,
            wnr: x.wnr,
            level: x.level,
            s1ptw: false,
            cm: false,
          });
        },
      ),
    );
  });

  it("name all status codes and give level -1 its own", () => {
    expect([0x00, 0x07, 0x09, 0x0f, 0x10, 0x16, 0x1d, 0x21, 0x25, 0x2b, 0x35, 0x3f].map(fscName)).toEqual([
      "address size fault, level 0",
      "translation fault, level 3",
      "access flag fault, level 1",
      "permission fault, level 3",
      "synchronous external abort",
      "synchronous external abort on walk, level 2",
      "synchronous parity or ECC error on walk, level 1",
      "alignment fault",
      "granule protection fault on walk, level 1",
      "translation fault, level -1",
      "unsupported exclusive or atomic access",
      "reserved 0x3f",
    ]);
    expect([fscAt(FSC_ADDRESS_SIZE, -1), fscAt(FSC_TRANSLATION, -1)]).toEqual([0x29, 0x2b]);
  });

  it("without an abort class have only class and ISS", () => {
    expect(decodeSyndrome(0x02000000)).toEqual({ ec: 0, ecName: "UNKNOWN", il: true, iss: 0 });
    expect(decodeSyndrome(0x86000010).fscName).toBe("synchronous external abort");
  });
});

describe("HPFAR_EL2", () => {
  it("holds the IPA's page from bit 4 on", () => {
    for (const ipa of [0, 0x20000000, 0x8000000000, 0xf_ffff_ffff_f000]) {
      const hi = (ipa / 4294967296) | 0;
      expect(ipaOfHpfar(hpfarHi(hi), hpfarLo(hi, ipa | 0))).toBe(ipa);
    }
    expect(hex(hpfarLo(0, 0x20001234))).toBe("0x200010");
  });
});
