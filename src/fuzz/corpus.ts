/** What was worth keeping: programs that touched something no program before them had touched. */
import { FEATURES } from "./coverage.js";
import type { Program } from "./program.js";

export class Corpus {
  private readonly map = new Uint8Array(FEATURES >> 3);
  readonly programs: Program[] = [];
  features = 0;

  constructor(known?: string) {
    if (known === undefined) return;
    this.map.set(Buffer.from(known, "base64"));
    for (const byte of this.map) for (let b = byte; b !== 0; b &= b - 1) this.features++;
  }

  has(feature: number): boolean {
    return (this.map[feature >> 3]! & (1 << (feature & 7))) !== 0;
  }

  /** @returns true if one of the features is new; the program is kept then */
  offer(program: Program, features: readonly number[]): boolean {
    let fresh = 0;
    for (const f of features) {
      const bit = 1 << (f & 7);
      if ((this.map[f >> 3]! & bit) !== 0) continue;
      this.map[f >> 3]! |= bit;
      fresh++;
    }
    this.features += fresh;
    if (fresh > 0) this.programs.push(program);
    return fresh > 0;
  }

  /** The features as text, for a worker. */
  known(): string {
    return Buffer.from(this.map).toString("base64");
  }
}
