/**
 * The list of VMAs whose entries a device has filled (v5.8 to v6.9: vdev->vma_list), newest first, as list_add makes it.
 * Under vma_lock.
 */
import type { Sim } from "../sim/sim.js";
import type { I32Pool } from "../sim/state.js";

const VMA = 0;
const MM = 1;
const NEXT = 2;
const WORDS = 3;

export class VmaList {
  /** Per device: first node + 1. */
  private readonly heads: I32Pool;
  private readonly nodes: I32Pool;
  /** [0] nodes ever used, [1] first free node + 1. */
  private readonly used: I32Pool;

  constructor(sim: Sim, devices: number) {
    this.heads = sim.state.i32("vfio.vmaHeads", Math.max(1, devices));
    this.nodes = sim.state.i32("vfio.vmaNodes", 16 * WORDS);
    this.used = sim.state.i32("vfio.vmaUsed", 2);
  }

  /** The first node of a device, or -1. */
  first(dev: number): number {
    return this.heads.a[dev]! - 1;
  }
  next(node: number): number {
    return this.nodes.a[node * WORDS + NEXT]! - 1;
  }
  vma(node: number): number {
    return this.nodes.a[node * WORDS + VMA]!;
  }
  mm(node: number): number {
    return this.nodes.a[node * WORDS + MM]!;
  }

  contains(dev: number, vma: number): boolean {
    for (let n = this.first(dev); n >= 0; n = this.next(n)) if (this.vma(n) === vma) return true;
    return false;
  }

  /** The first node of one address space, or -1. */
  firstOf(dev: number, mm: number): number {
    let n = this.first(dev);
    while (n >= 0 && this.mm(n) !== mm) n = this.next(n);
    return n;
  }

  /** __vfio_pci_add_vma. */
  add(dev: number, mm: number, vma: number): void {
    let n = this.used.a[1]! - 1;
    if (n >= 0) this.used.set(1, this.nodes.a[n * WORDS + NEXT]!);
    else {
      n = this.used.a[0]!;
      this.used.set(0, n + 1);
      this.nodes.ensure((n + 1) * WORDS);
    }
    this.nodes.set(n * WORDS + VMA, vma);
    this.nodes.set(n * WORDS + MM, mm);
    this.nodes.set(n * WORDS + NEXT, this.heads.a[dev]!);
    this.heads.set(dev, n + 1);
  }

  /** list_del and kfree of the first node for a VMA. @returns false if there is none */
  remove(dev: number, vma: number): boolean {
    let before = -1;
    for (let n = this.first(dev); n >= 0; before = n, n = this.next(n)) {
      if (this.vma(n) !== vma) continue;
      const next = this.nodes.a[n * WORDS + NEXT]!;
      if (before < 0) this.heads.set(dev, next);
      else this.nodes.set(before * WORDS + NEXT, next);
      this.nodes.set(n * WORDS + VMA, 0);
      this.nodes.set(n * WORDS + MM, 0);
      this.nodes.set(n * WORDS + NEXT, this.used.a[1]!);
      this.used.set(1, n + 1);
      return true;
    }
    return false;
  }
}
