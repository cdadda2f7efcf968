import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test, vi } from "vitest";
import { enter, type Door } from "../../src/fuzz/doors.js";
import { mutateText } from "../../src/fuzz/mutatetext.js";
import { Rng } from "../../src/fuzz/rng.js";
import { faultline, temporaryFolder } from "../cli/command.js";

vi.setConfig({ testTimeout: 300_000 });

test("broken scripts and recordings are answered: a result, an error with its place, or a budget", async () => {
  const cwd = temporaryFolder();
  const r = await faultline(["fuzz", "--hostile", "--runs", "600", "--seed", "3", "--json"], { cwd });
  const report = JSON.parse(r.out) as { inputs: number; accepted: number; refused: number; budget: number; failures: unknown[] };
  expect(report.failures).toEqual([]);
  expect(r.status).toBe(0);
  expect(report.accepted + report.refused + report.budget).toBe(600);
  expect(Math.min(report.accepted, report.refused)).toBeGreaterThan(60);
});

/** What hostile campaigns have found: each was an exception once. */
const FOUND: readonly (readonly [name: string, door: Door, input: string])[] = [
  ["an alignment that is no power of two", "run", 'title "x"\nlet a = mmap(0, 4K, align=5)\n'],
  ["a PCI address with a device that no bus has", "run", "let dev = vfio_open(0000:00:A6.0)\n"],
  [
    "a strace with a memory region below zero",
    "strace",
    "12 ioctl(12, KVM_SET_USER_MEMORY_REGION, {slot=2, flags=0, guest_phys_addr=0x80000000, memory_size=2097152, userspace_addr=-1}) = 0\n",
  ],
  ["a recording that opens what is no PCI address", "conform", "# kernel v5.5, cpu max\nscenario x\n> vm\n> vfio open 7:0\n"],
];

test("a strace whose mmap has flags that run together, so that -1 would be a file, becomes a script", () => {
  const input =
    "12 mmap(NULL, 4096, PROT_NONE, MAP_PRIVATEMAP_ANONYMOUS, -1, 0) = 0x7fe000000000\n" +
    "12 ioctl(12, KVM_SET_USER_MEMORY_REGION, {slot=0, flags=0, guest_phys_addr=0x80000000, memory_size=4096, userspace_addr=0x7fe000000000}) = 0\n";
  return expect(enter("strace", Buffer.from(input))).resolves.toBe("accepted");
});

/** What they have found that is no mistake: it comes to an end. */
const ENDS: readonly (readonly [name: string, door: Door, answer: string, input: string])[] = [
  [
    "a write of no bytes to a region",
    "run",
    "accepted",
    "let dev = vfio_open(0000:00:06.0)\nlet n = pwrite(dev, 5, 0, bar2 + 8)\nexpect n == 0\n",
  ],
  [
    "memory of a driver beyond all memory",
    "run",
    "accepted",
    'let ram = open("/dev/remap_ram", 0x7fffffffffffffff)\nexpect errno ENOMEM\n',
  ],
  [
    "a lock that leaks twenty times",
    "run",
    "accepted",
    "variant v5.14\nKVM_CREATE_VM(mte=1)\nlet ram = mmap(0, 64K, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_ANONYMOUS)\n" +
      "for i in 0..20 {\nKVM_SET_USER_MEMORY_REGION(slot=1, guest_phys_addr=0x80000000, memory_size=64K, userspace_addr=ram)\nexpect errno EINVAL\n}\n",
  ],
  [
    "a par without agents while a posted write is on its way",
    "explore",
    "accepted",
    "machine { devices nic  kernel v6.9  buffers modelled }\nlet dev = vfio_open(0000:01:00.0)\n" +
      "let regs = mmap(0, 64K, PROT_READ|PROT_WRITE, MAP_SHARED, dev, bar0)\nwrite32(regs + 0x20, 0x77)\npar {\n}\n",
  ],
  [
    "a strace of a vCPU with a number below zero",
    "strace",
    "accepted",
    "12 ioctl(12, KVM_SET_USER_MEMORY_REGION, {slot=0, flags=0, guest_phys_addr=0x80000000, memory_size=134217728, userspace_addr=0x7fe000000000}) = 0\n" +
      "12 ioctl(12, KVM_CREATE_VCPU, -1) = 13\n15 ioctl(13, KVM_RUN, 0) = 0\n",
  ],
];
test.each(ENDS)("%s comes to its end", (_name, door, answer, input) => {
  return expect(enter(door, Buffer.from(input))).resolves.toBe(answer);
});

test("a trace.dat whose pages lie behind its end, or have no size, is refused", async () => {
  const folder = temporaryFolder();
  await faultline(["run", "2019-munmap-remap", "--kernel", "v5.5", "--trace", "t.dat", "--quiet"], { cwd: folder });
  const bytes = readFileSync(join(folder, "t.dat"));
  // Magic, "tracing", version and its zero, byte order, long: then the page size.
  const size = bytes.indexOf(Buffer.from([0, 0, 8])) + 3;
  const damaged = Buffer.from(bytes);
  expect(bytes.readUInt32LE(size)).toBe(4096);
  damaged.writeUInt32LE(0, size);
  await expect(enter("diff", damaged)).resolves.toBe("refused");
  await expect(enter("diff", bytes.subarray(0, bytes.length - 2 * 4096))).resolves.toBe("refused");
});

test.each(FOUND)("%s is refused with a place", (_name, door, input) => {
  return expect(enter(door, Buffer.from(input))).resolves.toBe("refused");
});

test("what breaks texts keeps to a seed", () => {
  const text = "let a = 5\nguest { mov x0, a }\n";
  const many = (seed: number) => Array.from({ length: 50 }, (_, n) => mutateText(new Rng(seed, n), text, "munmap(1, 2)\n"));
  expect(many(1)).toEqual(many(1));
  expect(new Set(many(1)).size).toBeGreaterThan(40);
});
