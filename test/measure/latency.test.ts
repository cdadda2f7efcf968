import fc from "fast-check";
import { expect, test } from "vitest";
import { buckets, Distribution } from "../../src/measure/latency.js";

const values = fc.array(fc.integer({ min: 0, max: 5000 }), { minLength: 1, maxLength: 200 });

test("quantiles are those of the sorted list", () => {
  fc.assert(
    fc.property(values, fc.integer({ min: 0, max: 100 }), (list, percent) => {
      const d = new Distribution();
      for (const v of list) d.add(v);
      const sorted = [...list].sort((a, b) => a - b);
      expect(d.quantile(percent / 100)).toBe(sorted[Math.max(1, Math.ceil((percent / 100) * list.length)) - 1]);
      expect(d.total).toBe(list.length);
    }),
  );
});

test("every value lies in its bucket, and nothing is lost", () => {
  fc.assert(
    fc.property(values, (list) => {
      const d = new Distribution();
      for (const v of list) d.add(v);
      const all = buckets(d);
      expect(all.reduce((n, b) => n + b.count, 0)).toBe(list.length);
      for (const v of list) expect(all.some((b) => b.from <= v && v < b.to)).toBe(true);
    }),
  );
});
