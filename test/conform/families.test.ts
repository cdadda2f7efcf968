/** Scripts that no recording holds: every era and CPU carries them out, and shows what the references say of it. */
import { describe, expect, it } from "vitest";
import { CPU_PROFILES } from "../../src/arch/features.js";
import { Replayer } from "../../src/conform/replay.js";
import { ERAS } from "../../src/eras.js";
import { commands, FAMILIES, script } from "./scripts.js";

/** Every step's lines; with `only`, of the `=` or `~` kind. */
function replay(text: string, kernel: string, only?: "=" | "~", cpu = "max"): string[][] {
  const recording = commands(text, kernel, cpu);
  const replayer = new Replayer(recording);
  return recording.steps.map((s) =>
    replayer
      .step(s)
      .filter((o) => only === undefined || o.kind === only)
      .map((o) => (only === undefined ? `${o.kind} ${o.text}` : o.text)),
  );
}
const last = (text: string, kernel: string, only?: "=" | "~", cpu = "max"): string[] => replay(text, kernel, only, cpu).at(-1)!;
const RECORDED = ["v5.4", "v5.5", "v6.1.192", "v6.8", "v6.12.117", "v6.18.2", "v7.2.12"];
/** What the kernels show, equal ones together. */
const classes = (text: string, only: "=" | "~" = "="): Record<string, string> => {
  const out: Record<string, string> = {};
  for (const k of RECORDED) {
    const shown = last(text, k, only).join("; ");
    out[shown] = out[shown] === undefined ? k : `${out[shown]} ${k}`;
  }
  return out;
};

describe("scripts of every family", () => {
  // Every family under a third of the eras, every era a third of the families, the CPUs in turn.
  it.each(ERAS.map((e, i) => [e.name, i] as const))("%s carries them out", (kernel, era) => {
    for (const [n, family] of FAMILIES.entries()) {
      if ((n + era) % 3 !== 0) continue;
      const cpu = Object.keys(CPU_PROFILES)[(n + kernel.length) % 4]!;
      const recording = script(family, kernel, cpu);
      const replayer = new Replayer(recording);
      for (const step of recording.steps) {
        for (const o of replayer.step(step)) expect(o.text, `${family} ${cpu} ${step.command.join(" ")}`).not.toMatch(/undefined|NaN/);
      }
    }
  });
});

describe("what kernels differ in (kernel-eras-late.md, section 4)", () => {
  const VM = "vm\nop nop\n";

  it("c3: an IPA beyond the VM, and beyond 48 bits", () => {
    expect(classes(`${VM}op ldr64 0x10000000008`)).toEqual({
      "exit MMIO read ipa=0x10000000008 len=8 data=0xf1e2d3c4b5a69788; done x0=0xf1e2d3c4b5a69788 x4=0xf1e2d3c4b5a69788": "v5.4 v5.5 v6.8",
      "guest-exception esr=0xffffffff96000010 far=- spsr=0x3c5 vector=0x200": "v6.1.192",
      "guest-exception esr=0x96000010 far=0x10000000008 spsr=0x3c5 vector=0x200": "v6.12.117 v6.18.2 v7.2.12",
    });
    expect(last(`${VM}op ldr64 0x1000000000000`, "v6.1.192")).toEqual([
      "= guest-exception esr=0xffffffff96000000 far=- spsr=0x3c5 vector=0x200",
      "~ inject_size",
      "~ inject_dabt far=0x1000000000000",
      "~ guest_abort ret=1",
    ]);
    // A CPU of 40 bits raises the address size fault itself: no exit.
    expect(last(`${VM}op ldr64 0x10000000000`, "v6.12.117", undefined, "cortex-a76")).toEqual([
      "= guest-exception esr=0x96000000 far=0x10000000000 spsr=0x3c5 vector=0x200",
    ]);
  });

  it("b3: a writable slot over a read-only mapping", () => {
    const text = `${VM}back R filero 0x20000\nslot 1 0x90000000 0x20000 R 0 -`;
    expect(classes(text)).toEqual({
      "slot id=1 size=0x20000 errno=1": "v5.4 v5.5",
      "slot id=1 size=0x20000 errno=0": "v6.1.192 v6.8 v6.12.117 v6.18.2 v7.2.12",
    });
    expect(last(`${text}\nop str64 0x90000000 1`, "v6.8")).toEqual([
      "= run errno=EFAULT exit=UNKNOWN",
      "~ fault ipa=0x90000000 esr=0x93c18045 far=0x90000000",
      "~ pfn error",
      "~ guest_abort ret=-14",
      "~ userspace_exit error (14)",
    ]);
  });

  it("a6: fork write-protects the whole VMA, and the first store copies", () => {
    const text = `${VM}back R nohuge 0x200000\nslot 1 0x80000000 0x200000 R 0 -\nop str64 0x80000000 1\nfork`;
    for (const k of RECORDED) {
      expect(last(text, k, "~")).toEqual([
        "unmap_hva_range R+0x0..R+0x200000",
        "s2unmap ipa=0x80000000 size=0x200000",
        "s2unmap ipa=0x40000000 size=0x200000",
      ]);
    }
    // The copy happens inside the fault: the pfn lookup is done again.
    const copies = (k: string) => last(`${text}\nop str64 0x80000000 2`, k, "~").filter((l) => l.startsWith("fault ipa=0x8")).length;
    expect(RECORDED.map(copies)).toEqual([2, 2, 2, 2, 2, 2, 2]);
    expect(last(`${text}\nop str64 0x80000000 2`, "v6.8", "~").filter((l) => l.startsWith("set_spte_hva"))).toEqual(["set_spte_hva R+0x0"]);
    expect(last(`${text}\nop str64 0x80000000 2`, "v6.12.117", "~").some((l) => l.startsWith("set_spte_hva"))).toBe(false);
  });

  const bar = (slot: string, address: string) => `vfio open 0000:00:06.0\n${VM}back V bar2\nslot 1 ${slot}\nop ldr32 ${address}`;
  const mapped = (text: string) =>
    RECORDED.slice(2).map((k) =>
      last(text, k, "~")
        .find((l) => l.startsWith("s2map"))
        ?.replace(/^s2map ipa=\S+ /, ""),
    );

  it("v2, v11: a BAR's blocks and type", () => {
    expect(mapped(bar("0x80000000 0x400000 V 0 -", "0x80003000"))).toEqual([
      "size=0x1000 pa=V+0x3000 prot=RW+DEVICE",
      "size=0x200000 pa=V+0x0 prot=RW+DEVICE",
      "size=0x200000 pa=V+0x0 prot=RW+NC",
      "size=0x200000 pa=V+0x0 prot=RW+NC",
      "size=0x200000 pa=V+0x0 prot=RW+NC",
    ]);
  });

  it("v4, v13: a slot that cannot hold a block gets pages in every kernel", () => {
    for (const [slot, at] of [
      ["0x80001000 0x400000 V 0 -", "0x80201000"],
      ["0x80000000 0x100000 V 0 -", "0x80000000"],
    ] as const)
      for (const m of mapped(bar(slot, at))) expect(m).toMatch(/^size=0x1000 /);
  });

  it("v15: the looked-up page is the block head where the VMA decides, the touched one where the host leaf does", () => {
    const second = `${bar("0x80000000 0x400000 V 0 -", "0x80000000")}\nslot 2 0x90000000 0x400000 V 0 -\nop ldr32 0x90202000`;
    const pfn = (k: string) => last(second, k, "~").find((l) => l.startsWith("pfn"));
    expect(RECORDED.slice(2).map(pfn)).toEqual(["pfn V+0x202000", "pfn V+0x200000", "pfn V+0x202000", "pfn V+0x200000", "pfn V+0x202000"]);
  });

  it("w4: a BAR shorter than a block, first touched away from its head: a page in every kernel", () => {
    const text = `vfio open 0000:00:04.0\n${VM}back V bar0\nslot 1 0x80000000 0x200000 V 0 -\nop ldr32 0x80001000`;
    for (const m of mapped(text)) expect(m).toMatch(/^size=0x1000 pa=V\+0x1000 /);
  });

  it("v6: a read-only slot on a BAR is mapped R, and stores are MMIO", () => {
    const text = bar("0x80000000 0x400000 V 0 ro", "0x80000000");
    for (const m of mapped(text)) expect(m).toMatch(/prot=R\+/);
    for (const k of RECORDED.slice(1))
      expect(last(`${text}\nop str32 0x80000000 1`, k, "=")[0]).toBe("exit MMIO write ipa=0x80000000 len=4 data=0x1");
  });

  it("v8: stage-1 tables in a BAR loop where the BAR is Device and walks are checked", () => {
    const text = `vfio open 0000:00:06.0\n${VM}back V bar2\nslot 1 0x80000000 0x400000 V 0 -
      hw V 0 0x0060000000000401\nhw V 8 0x0040000040000705\nhw V 16 0x0040000080000705
      op mmuon 0x80000000 0xff00 0x200803519 0x30d0199d`;
    const stuck = (k: string) => last(text, k, "=")[0]!.includes("SIGALRM");
    expect(["v5.5", "v6.1.192", "v6.8", "v6.12.117", "v6.18.2", "v7.2.12"].filter(stuck)).toEqual(["v6.1.192", "v6.8"]);
  });

  it("h3: populating by madvise is unknown to v5.x, and every later kernel then maps blocks", () => {
    const text = `${VM}back R thp 0x400000\nmadvise R 0 0x400000 populate_w`;
    expect(classes(text)).toEqual({ "madvise errno=22": "v5.4 v5.5", "madvise errno=0": "v6.1.192 v6.8 v6.12.117 v6.18.2 v7.2.12" });
  });
});

describe("the replayer", () => {
  it("ends a guest that aborts at its own abort vector like the recorder's alarm", () => {
    // MMU on without a mapping of the code: the fetch aborts, and so does the fetch of the vector.
    const text = "vm\nback T nohuge 0x200000\nslot 1 0x60000000 0x200000 T 0 -\nop mmuon 0x60000000 0xff00 0x200803519 0x30d0199d";
    expect(last(text, "v6.12", "=")).toEqual(["run errno=EINTR exit=INTR signal=SIGALRM si_code=128"]);
  });
  it("knows every word of madvise, and a child that is not there", () => {
    const text = "vm\nback R nohuge 0x200000\nmadvise R 0 0x1000 pageout\nmadvise R 0 0x1000 willneed\nforkend";
    expect(replay(text, "v6.12", "=").slice(2)).toEqual([["madvise errno=0"], ["madvise errno=0"], ["forkend errno=3"]]);
  });
});
