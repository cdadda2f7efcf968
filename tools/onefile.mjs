// The command in one file, with the code that V8 compiled for it.
//
// Node keeps no compiled code of ES modules, and finding and compiling some fifty of them is half of what a short
// run takes. This puts the bundled command and its chunks into one script, each still evaluated when it is first
// asked for, and lets one run of it write down what was compiled. src/start.ts starts it.
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join, posix } from "node:path";
import { fileURLToPath } from "node:url";
import { build, transform } from "esbuild";
import { writeWhole } from "./writewhole.mjs";

const root = fileURLToPath(new URL("../", import.meta.url));
const IMPORTED = /^import .* from "(\.[^"]*)";$|^} from "(\.[^"]*)";$|^import "(\.[^"]*)";$/gm;
const LOADED = /\bimport\("(\.[^"]*)"\)/g;
/** Awaits as it is loaded, which a script cannot. */
const AWAITS = /^ *[\w.]+ = await import\(/m;
/** The language server: a sixth of the text, and an editor starts it once. */
const SERVER = /\/server-[^/]*$/;
const staysOutside = (file, text) => AWAITS.test(text) || SERVER.test(file);

/** The entry and all it imports, at once or later: path in the folder -> text. */
function chunksOf(folder, entry) {
  const texts = new Map();
  const visit = (file) => {
    if (texts.has(file)) return;
    const text = readFileSync(join(folder, file), "utf8");
    texts.set(file, text);
    if (staysOutside(file, text)) return;
    for (const found of [...text.matchAll(IMPORTED), ...text.matchAll(LOADED)])
      visit(posix.join(posix.dirname(file), found[1] ?? found[2] ?? found[3]));
  };
  visit(entry);
  return texts;
}

/** One chunk as a function of the script. */
async function asFunction(file, text, kept) {
  const path = (id) => posix.join(posix.dirname(file), id);
  const lazy = text.replace(LOADED, (_, id) =>
    kept.has(path(id)) ? `import("./${path(id)}")` : `Promise.resolve().then(() => require("${id}"))`,
  );
  const { code } = await transform(lazy, {
    format: "cjs",
    platform: "node",
    target: "node20",
    minifyWhitespace: true,
    define: { "import.meta.url": "__url", "import.meta.dirname": "__dirname" },
  });
  return `${JSON.stringify(file)}:function(module,exports,require,__url,__dirname){${code.replace(/\bimport\(/g, "imported(")}\n}`;
}

/** What evaluates the chunks of the script, each when it is first required. */
const LOADER = `const url = require("node:url"), path = require("node:path"), loaded = {};
const load = (name) => {
  if (loaded[name] === undefined) {
    const module = (loaded[name] = { exports: {} });
    const place = path.join(path.dirname(file), name);
    const required = (id) => (id[0] === "." ? load(path.posix.join(path.posix.dirname(name), id)) : require(id));
    chunks[name](module, module.exports, required, url.pathToFileURL(place).href, path.dirname(place));
  }
  return loaded[name].exports;
};`;

/**
 * Writes the executable `faultline.cjs`, `command.cjs` and `command.cache` beside the bundled `cli.js` of a folder.
 * @param {string} folder its absolute path
 */
export async function oneFile(folder) {
  const texts = chunksOf(folder, "cli.js");
  const kept = new Set([...texts].filter(([file, text]) => staysOutside(file, text)).map(([file]) => file));
  const functions = await Promise.all([...texts].filter(([file]) => !kept.has(file)).map(([file, text]) => asFunction(file, text, kept)));
  writeWhole(
    join(folder, "command.cjs"),
    `(function(require,imported,file){"use strict";\nconst chunks={${functions.join(",\n")}};\n${LOADER}\nload("cli.js");\n})`,
  );
  await build({
    entryPoints: [join(root, "src/faultline.ts")],
    bundle: true,
    platform: "node",
    format: "cjs",
    target: "node20",
    outfile: join(folder, "faultline.cjs"),
    define: { "import.meta.dirname": "__dirname" },
    logLevel: "warning",
  });
  const { status, stderr } = spawnSync(process.execPath, [join(root, "tools/codecache.mjs"), folder], { encoding: "utf8", cwd: root });
  if (status !== 0) throw new Error(`the command's compiled code could not be had: ${stderr}`);
}
