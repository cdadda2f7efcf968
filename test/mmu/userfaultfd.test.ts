import { describe, expect, it } from "vitest";
import type { Activity } from "../../src/sim/agents.js";
import { FOLL_HWPOISON, FOLL_WRITE } from "../../src/mmu/gup.js";
import { MREMAP_FIXED, MREMAP_MAYMOVE } from "../../src/mmu/mremap.js";
import {
  UFFD_USER_MODE_ONLY,
  UFFDIO_REGISTER_MODE_MINOR,
  UFFDIO_REGISTER_MODE_MISSING,
  UFFDIO_REGISTER_MODE_WP,
  UFFDIO_WRITEPROTECT_MODE_WP,
} from "../../src/mmu/uffdio.js";
import { MAP_ANONYMOUS, MAP_FIXED, MAP_HUGETLB, MAP_PRIVATE, MAP_SHARED, PROT_READ, PROT_WRITE } from "../../src/mmu/vmflags.js";
import { Bench } from "./faultbench.js";

const AT = 0x10000000;
const BUF = 0x18000000;
const RW = PROT_READ | PROT_WRITE;

/** A vCPU agent that faults, and the VMM's own agent that answers. */
class Pair extends Bench {
  readonly vcpu = this.sim.agents.add("vcpu0", "vcpu", 0);
  readonly uffd: number;

  constructor(
    mode: number,
    { era = "v6.12", flags = 0, map = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, fd = -1, files = false, len = 0x400000 } = {},
  ) {
    super(era);
    const u = this.mm.userfaultfd;
    const file = files ? this.mm.files.createMemfd(len) : fd;
    this.map(BUF, 0x400000, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED);
    this.map(AT, len, RW, map, file);
    this.uffd = this.run(u.create, 0, flags);
    expect(this.run(u.api, this.uffd)).toBe(0);
    expect(this.run(u.register, this.uffd, AT, len, mode)).toBe(0);
    this.told();
  }

  /** Starts an activity on the vCPU. @returns true if it ended at once */
  start(act: Activity, ...args: number[]): boolean {
    this.sim.agents.start(this.vcpu, act, ...args);
    return this.sim.agents.runToEnd(this.vcpu);
  }
  resume(): boolean {
    return this.sim.agents.runToEnd(this.vcpu);
  }
  answer(word = 0): number {
    return this.sim.agents.result(this.vcpu, word);
  }
}

describe("userfaultfd", () => {
  it("puts the vCPU to sleep in get_user_pages until the VMM has copied the page", () => {
    const b = new Pair(UFFDIO_REGISTER_MODE_MISSING);
    const u = b.mm.userfaultfd;
    b.write(BUF + 0x1008, 0xabcd);
    expect(b.start(b.mm.gup.getUserPagesUnlocked, 0, AT + 0x2000, FOLL_WRITE)).toBe(false);
    expect(b.sim.agents.backtrace(b.vcpu)).toEqual(["handleMmFault:handleUserfault", "getUserPagesUnlocked:faultinPage"]);
    // The fault sleeps without the mmap_lock.
    expect(b.map(0x40000000, 0x1000, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED)).toBe(0x40000000);
    expect(b.run(u.read, b.uffd, 0)).toBe(1);
    expect([b.result(1), b.result(2)]).toEqual([AT + 0x2000, 1]);
    expect(b.run(u.read, b.uffd, 0)).toBe(-11);
    b.told();
    expect(b.run(u.copy, b.uffd, AT + 0x2000, BUF + 0x1000, 0x1000, 0)).toBe(0x1000);
    expect(b.told()).toEqual([]);
    expect(b.resume()).toBe(true);
    expect(b.answer()).toBe(b.gup(AT + 0x2000, FOLL_WRITE));
    b.read(AT + 0x2008);
    expect(b.result(1)).toBe(0xabcd);
    expect(b.run(u.copy, b.uffd, AT + 0x2000, BUF, 0x1000, 0)).toBe(-17);
  });

  it("several faults are read in the order in which they came, and wake by address", () => {
    const b = new Pair(UFFDIO_REGISTER_MODE_MISSING);
    const other = b.sim.agents.add("vcpu1", "vcpu", 0);
    b.start(b.mm.hostAccess, 0, AT + 0x5000, 8, 0, 0, 0);
    b.sim.agents.start(other, b.mm.hostAccess, 0, AT, 8, 0, 0, 0);
    expect(b.sim.agents.runToEnd(other)).toBe(false);
    const u = b.mm.userfaultfd;
    b.run(u.read, b.uffd, 0);
    expect(b.result(1)).toBe(AT + 0x5000);
    b.run(u.read, b.uffd, 0);
    expect(b.result(1)).toBe(AT);
    expect(b.run(u.zeropage, b.uffd, AT, 0x1000, 0)).toBe(0x1000);
    expect(b.resume()).toBe(false);
    expect(b.sim.agents.runToEnd(other)).toBe(true);
    expect(b.run(u.wake, b.uffd, AT + 0x5000, 0x1000)).toBe(0);
    // Woken without a page: the fault is taken again and sleeps again.
    expect(b.resume()).toBe(false);
    b.run(u.zeropage, b.uffd, AT + 0x5000, 0x1000, 0);
    expect(b.resume()).toBe(true);
    expect(b.answer()).toBe(0);
  });

  it("write protection makes a message of a write, and of nothing else", () => {
    const b = new Pair(UFFDIO_REGISTER_MODE_WP);
    const u = b.mm.userfaultfd;
    b.write(AT, 1);
    expect(b.run(u.writeprotect, b.uffd, AT, 0x400000, UFFDIO_WRITEPROTECT_MODE_WP)).toBe(0);
    expect(b.told()).toEqual(["S 10000000-10400000", "E 10000000-10400000"]);
    expect(b.start(b.mm.hostAccess, 0, AT, 8, 0, 0, 0)).toBe(true);
    expect(b.start(b.mm.hostAccess, 0, AT, 8, 1, 2, 0)).toBe(false);
    b.run(u.read, b.uffd, 0);
    expect([b.result(1), b.result(2)]).toEqual([AT, 3]);
    expect(b.run(u.writeprotect, b.uffd, AT, 0x1000, 0)).toBe(0);
    expect(b.resume()).toBe(true);
    b.read(AT);
    expect(b.result(1)).toBe(2);
  });

  it("minor faults: the page is in the page cache and only its mapping is missing", () => {
    const b = new Pair(UFFDIO_REGISTER_MODE_MINOR, { map: MAP_SHARED | MAP_FIXED, files: true });
    const u = b.mm.userfaultfd;
    const fd = b.mm.vmas.file(b.mm.vmas.findVma(0, AT));
    b.map(0x50000000, 0x400000, RW, MAP_SHARED | MAP_FIXED, fd);
    b.write(0x50003000, 9);
    expect(b.start(b.mm.hostAccess, 0, AT + 0x3000, 8, 0, 0, 0)).toBe(false);
    b.run(u.read, b.uffd, 0);
    expect([b.result(1), b.result(2)]).toEqual([AT + 0x3000, 4]);
    expect(b.run(u.continue, b.uffd, AT + 0x3000, 0x1000, 0)).toBe(0x1000);
    expect(b.resume()).toBe(true);
    expect(b.answer(1)).toBe(9);
    // Not in the cache: nothing minor about it, the page is simply made.
    expect(b.start(b.mm.hostAccess, 0, AT + 0x8000, 8, 0, 0, 0)).toBe(true);
    expect(b.run(u.continue, b.uffd, AT + 0x9000, 0x1000, 0)).toBe(-14);
  });

  it("a hugetlb fault is announced and filled as a whole page", () => {
    const b = new Pair(UFFDIO_REGISTER_MODE_MISSING, { map: MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_FIXED, len: 0x200000 });
    const u = b.mm.userfaultfd;
    b.write(BUF + 0x3000, 7);
    expect(b.start(b.mm.hostAccess, 0, AT + 0x3000, 8, 0, 0, 0)).toBe(false);
    b.run(u.read, b.uffd, 0);
    expect(b.result(1)).toBe(AT);
    expect(b.run(u.copy, b.uffd, AT, BUF, 0x200000, 0)).toBe(0x200000);
    expect(b.resume()).toBe(true);
    expect(b.answer(1)).toBe(7);
    expect(b.leaves().filter((l) => l.startsWith("10"))).toEqual(["10000000 2 w"]);
  });

  it("of user mode only: the kernel's own faults are SIGBUS, the VMM's become messages", () => {
    const b = new Pair(UFFDIO_REGISTER_MODE_MISSING, { flags: UFFD_USER_MODE_ONLY });
    expect(b.gup(AT, 0)).toBe(-14);
    expect(b.start(b.mm.hostAccess, 0, AT, 8, 0, 0, 0)).toBe(false);
    const u = b.mm.userfaultfd;
    expect(b.run(u.unregister, b.uffd, AT, 0x400000)).toBe(0);
    expect(b.resume()).toBe(true);
    expect(b.answer()).toBe(0);
  });

  it("a range that is unregistered ends where it does, although its VMA has joined the next one", () => {
    const b = new Pair(UFFDIO_REGISTER_MODE_MISSING);
    const u = b.mm.userfaultfd;
    const { vmas } = b.mm;
    expect(b.run(u.unregister, b.uffd, AT + 0x1000, 0x3ff000)).toBe(0);
    expect(vmas.end(vmas.covering(0, AT))).toBe(AT + 0x1000);
    expect(b.run(u.unregister, b.uffd, AT, 0x1000)).toBe(0);
    expect(vmas.end(vmas.covering(0, AT))).toBeGreaterThanOrEqual(AT + 0x400000);
  });

  it("a mapping that replaces a registered one belongs to nobody, and then to who registers it", () => {
    const b = new Pair(UFFDIO_REGISTER_MODE_MISSING);
    const u = b.mm.userfaultfd;
    b.map(AT, 0x400000, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED);
    expect(b.start(b.mm.hostAccess, 0, AT + 0x300000, 8, 0, 0, 0)).toBe(true);
    const second = b.run(u.create, 0, 0);
    b.run(u.api, second);
    expect(b.run(u.register, second, AT + 0x1000, 0x3000, UFFDIO_REGISTER_MODE_MISSING)).toBe(0);
    expect(b.start(b.mm.hostAccess, 0, AT + 0x2000, 8, 0, 0, 0)).toBe(false);
    expect(b.run(u.read, b.uffd, 0)).toBe(-11);
    expect(b.run(u.read, second, 0)).toBe(1);
    // The rest of the old range is still free for the first one.
    expect(b.run(u.register, b.uffd, AT + 0x4000, 0x1000, UFFDIO_REGISTER_MODE_MISSING)).toBe(0);
    expect(b.run(u.register, b.uffd, AT + 0x1000, 0x1000, UFFDIO_REGISTER_MODE_MISSING)).toBe(-16);
  });

  it("a mapping that moves, and a child's copy, are registered no more", () => {
    const b = new Pair(UFFDIO_REGISTER_MODE_MISSING);
    const to = 0x70000000;
    expect(b.run(b.mm.syscalls.mremap, 0, AT, 0x10000, 0x10000, MREMAP_MAYMOVE | MREMAP_FIXED, to)).toBe(to);
    expect(b.start(b.mm.hostAccess, 0, to, 8, 0, 0, 0)).toBe(true);
    expect(b.answer()).toBe(0);
    expect(b.start(b.mm.hostAccess, 0, AT + 0x20000, 8, 0, 0, 0)).toBe(false);
    const child = b.run(b.mm.syscalls.fork, 0);
    const copy = b.mm.maps(child).find((m) => m.start <= AT + 0x20000 && m.end > AT + 0x20000)!;
    expect(copy.flags.filter((f) => f.startsWith("UFFD"))).toEqual([]);
  });

  it("refuses what the kernel refuses", () => {
    const b = new Pair(UFFDIO_REGISTER_MODE_MISSING);
    const u = b.mm.userfaultfd;
    expect(b.run(u.register, b.uffd, AT, 0x1000, 0)).toBe(-22);
    expect(b.run(u.register, b.uffd, 0x60000000, 0x1000, 1)).toBe(-22);
    expect(b.run(u.register, b.uffd, AT, 0x1000, UFFDIO_REGISTER_MODE_MINOR)).toBe(-22);
    expect(b.run(u.copy, b.uffd, BUF, AT, 0x1000, 0)).toBe(-2);
    expect(b.run(u.writeprotect, b.uffd, AT, 0x1000, 1)).toBe(-2);
    const second = b.run(u.create, 0, 0);
    expect(b.run(u.register, second, AT, 0x1000, 1)).toBe(-22);
    b.run(u.api, second);
    expect(b.run(u.register, second, AT, 0x1000, 1)).toBe(-16);
    expect(b.read(AT + 0x800000)).not.toBe(0);
    expect(b.mm.d.userfaultfdWp).toBe(true);
    const old = new Bench("v4.0");
    expect(old.run(old.mm.userfaultfd.create, 0, 0)).toBe(-38);
  });

  describe("by release", () => {
    const MISSING = UFFDIO_REGISTER_MODE_MISSING;
    const shmem = { map: MAP_SHARED | MAP_FIXED, files: true };
    const pair = (era: string, mode = MISSING, more = {}) => new Pair(mode, { era, ...more });

    it("userfaultfdFiles, userfaultfdUserMode", () => {
      const file = (era: string) => {
        const b = pair(era);
        b.map(AT, 0x10000, RW, MAP_SHARED | MAP_FIXED, b.mm.files.createMemfd(0x10000));
        return b.run(b.mm.userfaultfd.register, b.uffd, AT, 0x10000, MISSING);
      };
      expect([file("v4.10"), file("v4.20")]).toEqual([-22, 0]);
      const create = (b: Bench) => b.run(b.mm.userfaultfd.create, 0, UFFD_USER_MODE_ONLY) >= 0;
      expect([create(new Bench("v5.8")), create(new Bench("v5.11"))]).toEqual([false, true]);
    });

    it("userfaultfdRetries: who wakes to a page that is still missing sleeps again, or is told of an error", () => {
      const woken = (era: string, gup: boolean) => {
        const b = pair(era);
        if (gup) b.start(b.mm.gup.getUserPagesUnlocked, 0, AT, 0);
        else b.start(b.mm.hostAccess, 0, AT, 8, 0, 0, 0);
        b.run(b.mm.userfaultfd.wake, b.uffd, AT, 0x1000);
        return b.resume() ? b.answer() : "sleeps";
      };
      expect([woken("v5.6", false), woken("v5.8", false)]).toEqual([-(7 * 256 + 2), "sleeps"]);
      expect([woken("v5.6", true), woken("v5.8", true)]).toEqual([-14, "sleeps"]);
    });

    it("UFFDIO_COPY reads its source as copy_from_user does: where get_user_pages would break copy-on-write it does not", () => {
      const b = pair("v5.8");
      b.read(BUF);
      expect(b.run(b.mm.userfaultfd.copy, b.uffd, AT, BUF, 0x1000, 0)).toBe(0x1000);
      expect(b.mm.pt.walk(0, BUF) && b.mm.frames.isReserved(b.mm.pt.leafPfn)).toBe(true);
      expect(b.mm.frames.isReserved(b.gup(BUF, 0))).toBe(false);
    });

    it("userfaultfdNoVma, userfaultfdWriteprotect: what is answered where nothing is registered", () => {
      const copy = (b: Pair) => b.run(b.mm.userfaultfd.copy, b.uffd, BUF, BUF + 0x1000, 0x1000, 0);
      expect([copy(pair("v4.10")), copy(pair("v4.20"))]).toEqual([-22, -2]);
      const protect = (b: Pair) => b.run(b.mm.userfaultfd.writeprotect, b.uffd, AT, 0x1000, 0);
      expect([protect(pair("v5.6")), protect(pair("v5.8"))]).toEqual([-22, -2]);
    });

    it("userfaultfdContinueWp, userfaultfdPoison", () => {
      const later = (era: string, wp: boolean) => {
        const b = pair(era, UFFDIO_REGISTER_MODE_MINOR, shmem);
        const u = b.mm.userfaultfd;
        return wp ? b.run(u.continue, b.uffd, BUF, 0x1000, 2) : b.run(u.poison, b.uffd, AT, 0x1000, 0);
      };
      expect([later("v6.1", true), later("v6.4", true)]).toEqual([-22, -2]);
      expect([later("v6.4", false), later("v6.8", false)]).toEqual([-22, 0x1000]);
      const b = pair("v6.12");
      expect(b.run(b.mm.userfaultfd.poison, b.uffd, AT, 0x1000, 0)).toBe(0x1000);
      expect(b.start(b.mm.hostAccess, 0, AT, 8, 0, 0, 0)).toBe(true);
      expect(b.answer()).toBe(-(7 * 256 + 4));
      expect(b.gup(AT, FOLL_HWPOISON)).toBe(-133);
    });

    it("userfaultfdUnregisterOther", () => {
      const other = (era: string) => {
        const b = pair(era);
        const u = b.mm.userfaultfd;
        const second = b.run(u.create, 0, 0);
        b.run(u.api, second);
        return b.run(u.unregister, second, AT, 0x1000);
      };
      expect([other("v6.13"), other("v6.17")]).toEqual([0, -22]);
    });

    it("userfaultfdRegisterLess: without the mode that protects", () => {
      const again = (era: string) => {
        const b = pair(era, UFFDIO_REGISTER_MODE_WP | MISSING);
        const register = (mode: number) => b.run(b.mm.userfaultfd.register, b.uffd, AT, 0x1000, mode);
        return [register(UFFDIO_REGISTER_MODE_WP), register(MISSING)];
      };
      expect([again("v7.2.12"), again("v7.3.4")]).toEqual([
        [0, 0],
        [0, -16],
      ]);
    });

    it("mremapUserfaultfdMerge: a moved mapping takes the registration of the one that it joins", () => {
      const registered = (era: string) => {
        const b = pair(era);
        // The upper half goes elsewhere and comes back: it fits to the lower one again, which is registered.
        const move = (from: number, to: number) =>
          b.run(b.mm.syscalls.mremap, 0, from, 0x200000, 0x200000, MREMAP_MAYMOVE | MREMAP_FIXED, to);
        const away = 0x70000000;
        expect(move(AT + 0x200000, away)).toBe(away);
        expect(b.run(b.mm.userfaultfd.register, b.uffd, away, 0x200000, MISSING)).toBe(0);
        expect(move(away, AT + 0x200000)).toBe(AT + 0x200000);
        const of = (at: number) => b.mm.maps(0).find((m) => m.start <= at && m.end > at)!.flags;
        return [AT, AT + 0x200000].map((at) => of(at).some((flag) => flag.startsWith("UFFD")));
      };
      expect([registered("v7.2.12"), registered("v7.3.4")]).toEqual([
        [false, false],
        [true, false],
      ]);
    });

    it("mremapUserfaultfd, mremapUffdWp: what a mapping takes along", () => {
      const to = 0x70000000;
      const move = (b: Pair) => b.run(b.mm.syscalls.mremap, 0, AT, 0x10000, 0x10000, MREMAP_MAYMOVE | MREMAP_FIXED, to);
      const sleeps = (b: Pair) => (move(b), !b.start(b.mm.hostAccess, 0, to, 8, 0, 0, 0));
      expect([sleeps(pair("v4.20")), sleeps(pair("v5.4"))]).toEqual([true, false]);
      const marked = (era: string) => {
        const b = pair(era, UFFDIO_REGISTER_MODE_WP);
        b.write(AT, 1);
        b.run(b.mm.userfaultfd.writeprotect, b.uffd, AT, 0x1000, UFFDIO_WRITEPROTECT_MODE_WP);
        move(b);
        expect(b.run(b.mm.userfaultfd.register, b.uffd, to, 0x10000, UFFDIO_REGISTER_MODE_WP)).toBe(0);
        return !b.start(b.mm.hostAccess, 0, to, 8, 1, 2, 0);
      };
      expect([marked("v6.12"), marked("v6.12.117"), marked("v6.13")]).toEqual([true, false, false]);
    });
  });
});
