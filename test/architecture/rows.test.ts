/** Decision rows are asked on every fault: V8 must see them as objects with a fixed shape, not as hash tables. */
import { setFlagsFromString } from "node:v8";
import { describe, expect, it } from "vitest";
import { Machine } from "../../src/machine.js";

setFlagsFromString("--allow-natives-syntax");
const hasFastProperties = new Function("o", "return %HasFastProperties(o)") as (o: object) => boolean;

describe("the rows of decisions", () => {
  it("are objects with a fixed shape in the default era", () => {
    const { era } = new Machine();
    for (const row of [era.kvm, era.mm, era.vfio]) expect(hasFastProperties(row)).toBe(true);
  });
});
