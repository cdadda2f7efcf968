// Module-level constants become literals in the bundle.
//
// A bundle keeps `const ESR_EL2 = 256` of one file as a variable that the code of another file loads, and
// checks, each time it runs; the code of the fault path consists of such names. This replaces every read of a
// module-level variable that is written once, with a number or a boolean, by that value, and lets esbuild fold what follows.
import { readFileSync, writeFileSync } from "node:fs";
import { basename } from "node:path";
import { parse } from "acorn";
import { transform } from "esbuild";
import { analyze } from "eslint-scope";
import MagicString from "magic-string";

const UNARY = { "-": (a) => -a, "+": (a) => a, "~": (a) => ~a };
const BINARY = {
  "+": (a, b) => a + b,
  "-": (a, b) => a - b,
  "*": (a, b) => a * b,
  "/": (a, b) => a / b,
  "%": (a, b) => a % b,
  "**": (a, b) => a ** b,
  "<<": (a, b) => a << b,
  ">>": (a, b) => a >> b,
  ">>>": (a, b) => a >>> b,
  "&": (a, b) => a & b,
  "|": (a, b) => a | b,
  "^": (a, b) => a ^ b,
};

/** The number or boolean that an expression is, or undefined. @param known name -> value of the constants before it */
function valueOf(node, known) {
  switch (node?.type) {
    case "Literal":
      return typeof node.value === "number" || typeof node.value === "boolean" ? node.value : undefined;
    case "Identifier":
      return known.get(node.name);
    case "UnaryExpression": {
      const a = valueOf(node.argument, known);
      return a === undefined ? undefined : UNARY[node.operator]?.(a);
    }
    case "BinaryExpression": {
      const a = valueOf(node.left, known);
      const b = valueOf(node.right, known);
      return a === undefined || b === undefined ? undefined : BINARY[node.operator]?.(a, b);
    }
    default:
      return undefined;
  }
}

/** The tree of a module's text and the scope of its module-level names. */
function moduleOf(text) {
  const ast = parse(text, { ecmaVersion: 2023, sourceType: "module", allowHashBang: true, ranges: true });
  const module = analyze(ast, { ecmaVersion: 2023, sourceType: "module" }).scopes.find((s) => s.type === "module");
  return { ast, module };
}

/** Module-level variables of a program that are numbers or booleans for ever: variable -> value. */
function constantsOf(scope, imported) {
  const known = new Map();
  const out = new Map();
  for (const variable of scope.variables) {
    const [def] = variable.defs;
    if (variable.defs.length !== 1) continue;
    let value;
    if (def.type === "ImportBinding" && def.node.type === "ImportSpecifier")
      value = imported(def.parent.source.value, def.node.imported.name);
    else if (def.type === "Variable" && def.node.id.type === "Identifier" && !variable.references.some((r) => r.isWrite() && !r.init))
      value = valueOf(def.node.init, known);
    if (value === undefined || Number.isNaN(value)) continue;
    known.set(variable.name, value);
    out.set(variable, value);
  }
  return out;
}

/**
 * Makes what a file declares once constants, its functions at its top, and what it imports of another file's constants:
 * V8 puts what a constant of a module holds into the code that names it; a variable, a declared function or an import is
 * loaded and checked each time, since it could be assigned to.
 * @param imported whether a name of another file is a constant there
 * @returns the new text and the exported names that are constants
 */
function asConstants(text, imported) {
  const { ast, module } = moduleOf(text);
  const out = new MagicString(text);
  const constant = new Set();
  const once = ({ name }) => {
    const variable = module.set.get(name);
    return variable.defs.length === 1 && !variable.references.some((r) => r.isWrite() && !r.init);
  };
  let top = "";
  for (const node of ast.body) {
    if (node.type === "ImportDeclaration") {
      for (const { type, imported: from, local } of node.specifiers) {
        if (type !== "ImportSpecifier" || !imported(node.source.value, from.name)) continue;
        out.overwrite(from.start, local.end, `${from.name} as ${local.name}$`);
        top += `const ${local.name} = ${local.name}$;\n`;
        constant.add(local.name);
      }
    } else if (node.type === "FunctionDeclaration" && once(node.id)) {
      top += `const ${node.id.name} = ${text.slice(node.start, node.id.start)}${text.slice(node.id.end, node.end)};\n`;
      out.remove(node.start, node.end);
      constant.add(node.id.name);
    } else if (
      node.type === "VariableDeclaration" &&
      node.declarations.every((d) => d.init !== null && d.id.type === "Identifier" && once(d.id))
    ) {
      out.overwrite(node.start, node.start + node.kind.length, "const");
      for (const d of node.declarations) constant.add(d.id.name);
    }
  }
  const exported = ast.body.flatMap((n) => (n.type === "ExportNamedDeclaration" && n.source === null ? n.specifiers : []));
  return {
    text: top + out.toString(),
    constants: new Set(exported.filter((s) => constant.has(s.local.name)).map((s) => s.exported.name)),
  };
}

/** One file. @returns its new text and the constants that it exports, by exported name */
function replace(text, imported) {
  const { ast, module } = moduleOf(text);
  const names = new Map();
  /** Identifiers of `export { … }`, which stay, and of `{ NAME }`, which become `NAME: value`. */
  const keep = new Set();
  const shorthand = new Set();
  for (const statement of ast.body) {
    if (statement.type !== "ExportNamedDeclaration" || statement.source !== null) continue;
    for (const s of statement.specifiers) {
      keep.add(s.local);
      names.set(s.local.name, s.exported.name);
    }
  }
  walk(ast, (node) => {
    if (node.type === "Property" && node.shorthand) shorthand.add(node.value);
  });
  const exported = new Map();
  const out = new MagicString(text);
  for (const [variable, value] of constantsOf(module, imported)) {
    if (names.has(variable.name)) exported.set(names.get(variable.name), value);
    const literal = value < 0 || Object.is(value, -0) ? `(${String(value)})` : String(value);
    for (const { identifier, init } of variable.references) {
      if (init || keep.has(identifier)) continue;
      out.overwrite(identifier.start, identifier.end, shorthand.has(identifier) ? `${identifier.name}: ${literal}` : literal);
    }
  }
  return { text: out.toString(), exported };
}

function walk(node, visit) {
  if (Array.isArray(node)) for (const n of node) walk(n, visit);
  else if (node !== null && typeof node === "object" && typeof node.type === "string") {
    visit(node);
    for (const key of Object.keys(node)) if (key !== "type") walk(node[key], visit);
  }
}

/** Replaces in all files of a bundle. @param files paths, each after those that it imports */
export async function inlineConstants(files) {
  const exports = new Map();
  const constants = new Map();
  for (const file of files) {
    const imported = (from, name) => exports.get(basename(from))?.get(name);
    const { text, exported } = replace(readFileSync(file, "utf8"), imported);
    exports.set(basename(file), exported);
    const { code } = await transform(text, { minifySyntax: true, format: "esm", target: "node20" });
    const made = asConstants(code, (from, name) => constants.get(basename(from))?.has(name) === true);
    constants.set(basename(file), made.constants);
    writeFileSync(file, made.text);
  }
}
