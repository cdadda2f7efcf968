/** Output that keeps places for what is known later, against writing it all at the end. */
import { expect, test } from "vitest";
import { HeldBack } from "../../src/trace/heldback.js";

class Pieces {
  text = "";
  write(bytes: Uint8Array, length: number): void {
    this.text += Buffer.from(bytes.subarray(0, length)).toString();
  }
  commit(): void {
    // Nothing to rename.
  }
  abandon(): void {
    // Nothing to remove.
  }
}
const bytes = (s: string): Uint8Array => Buffer.from(s);

test("a place that is filled later stands where it was kept; one that is given up, or kept again, is empty", () => {
  const out = new Pieces();
  const held = new HeldBack(out);
  held.add(bytes("a"));
  held.keep(1);
  held.add(bytes("b"));
  held.keep(2);
  held.keep(3);
  held.add(bytes("c"));
  expect(held.fill(1, bytes("1"))).toBe(true);
  held.giveUp(2);
  held.keep(3);
  held.add(bytes("d"));
  expect(held.fill(2, bytes("2"))).toBe(false);
  expect(held.fill(3, bytes("3"))).toBe(true);
  held.finish();
  expect(out.text).toBe("a1bc3d");
});

test("what a place holds back is bounded: the oldest place is given up, and nothing else is lost", () => {
  const out = new Pieces();
  const held = new HeldBack(out);
  const line = "x".repeat(1 << 16);
  held.add(bytes(line));
  held.keep(1);
  for (let i = 0; i < 40; i++) held.add(bytes(line));
  expect(out.text.length).toBe(1 << 16);
  held.keep(2);
  for (let i = 0; i < 40; i++) held.add(bytes(line));
  expect(out.text.length).toBeGreaterThan(1 << 16);
  expect([held.fill(1, bytes("1")), held.fill(2, bytes("2"))]).toEqual([false, true]);
  held.finish();
  expect(out.text).toBe(line.repeat(41) + "2" + line.repeat(40));
});
