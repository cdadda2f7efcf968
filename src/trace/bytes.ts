/** Little-endian bytes that grow: headers of binary formats. */
export class Bytes {
  private data = new Uint8Array(1024);
  length = 0;

  private room(n: number): number {
    if (this.length + n > this.data.length) {
      const more = new Uint8Array(Math.max(2 * this.data.length, this.length + n));
      more.set(this.data.subarray(0, this.length));
      this.data = more;
    }
    const at = this.length;
    this.length += n;
    return at;
  }
  u8(...values: readonly number[]): this {
    for (const v of values) {
      const at = this.room(1);
      this.data[at] = v;
    }
    return this;
  }
  u16(v: number): this {
    return this.u8(v, v >>> 8);
  }
  u32(v: number): this {
    return this.u8(v, v >>> 8, v >>> 16, v >>> 24);
  }
  /** @param v at most 2^53 */
  u64(v: number): this {
    return this.u32(v).u32(Math.floor(v / 2 ** 32));
  }
  /** Latin-1. */
  text(s: string): this {
    const at = this.room(s.length);
    for (let i = 0; i < s.length; i++) this.data[at + i] = s.charCodeAt(i);
    return this;
  }
  bytes(b: Uint8Array): this {
    const at = this.room(b.length);
    this.data.set(b, at);
    return this;
  }
  /** An option of trace.dat: number, size, data. */
  option(id: number, body: Bytes): this {
    return this.u16(id).u32(body.length).bytes(body.take());
  }
  patch64(at: number, v: number): this {
    const end = this.length;
    this.length = at;
    this.u64(v);
    this.length = end;
    return this;
  }
  /** Zeros up to a multiple of `unit`. */
  align(unit: number): this {
    const n = (unit - (this.length % unit)) % unit;
    const at = this.room(n);
    this.data.fill(0, at, at + n);
    return this;
  }
  take(): Uint8Array {
    return this.data.slice(0, this.length);
  }
}
