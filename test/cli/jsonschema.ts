/** The schemas of schemas/, and what is wrong with a value by one of them. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Ajv2020 } from "ajv/dist/2020.js";

const FOLDER = fileURLToPath(new URL("../../schemas/", import.meta.url));
const files = readdirSync(FOLDER);
const ajv = new Ajv2020({ strict: true, allowUnionTypes: true, strictRequired: false, strictTypes: false });
for (const f of files) ajv.addSchema(JSON.parse(readFileSync(join(FOLDER, f), "utf8")) as object);

export const schemaNames = files.map((f) => f.replace(".schema.json", ""));

/** "" if a value is as the schema says, else what is wrong where. */
export function wrong(schema: string, value: unknown): string {
  const check = ajv.getSchema(`${schema}.schema.json`);
  if (check === undefined) return `there is no schemas/${schema}.schema.json`;
  return check(value) === true ? "" : ajv.errorsText(check.errors);
}
