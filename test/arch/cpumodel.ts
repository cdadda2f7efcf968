/** Arithmetic of the architecture in BigInt, for comparison. */
export const u64 = (v: bigint): bigint => BigInt.asUintN(64, v);
/** Sign-extends the low bits. */
export const sx = (v: bigint, bits: number): bigint => BigInt.asIntN(bits, v);

function pack(n: boolean, z: boolean, c: boolean, v: boolean): number {
  return (n ? 8 : 0) | (z ? 4 : 0) | (c ? 2 : 0) | (v ? 1 : 0);
}
function carry(x: bigint, y: bigint, carryIn: bigint, size: number): number {
  const a = BigInt.asUintN(size, x);
  const b = BigInt.asUintN(size, y);
  const full = a + b + carryIn;
  const r = BigInt.asUintN(size, full);
  const signed = sx(a, size) + sx(b, size) + carryIn;
  return pack(sx(r, size) < 0n, r === 0n, full !== r, sx(r, size) !== signed);
}
/** AddWithCarry's flags. */
export const NZCV = {
  add: (a: bigint, b: bigint, size: number): number => carry(a, b, 0n, size),
  sub: (a: bigint, b: bigint, size: number): number => carry(a, ~b, 1n, size),
  logic: (r: bigint, size: number): number => pack(sx(r, size) < 0n, BigInt.asUintN(size, r) === 0n, false, false),
};
