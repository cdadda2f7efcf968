/**
 * What a run writes outside the state registry: every assignment in the rooms of the machine to a field,
 * an element or a collection that is no pool. Found by the type checker, so a second name hides nothing.
 */
import ts from "typescript";

export const ROOMS = ["sim", "arch", "mmu", "vfio", "kvm"];

const POOLS = new Set(["I32Pool", "F64Pool", "Pool"]);
const MUTATORS = new Set([
  "push",
  "pop",
  "shift",
  "unshift",
  "splice",
  "sort",
  "reverse",
  "fill",
  "set",
  "add",
  "delete",
  "clear",
  "copyWithin",
]);
const COLLECTIONS =
  /^(Map|Set|WeakMap|Array|Int8Array|Uint8Array|Int16Array|Uint16Array|Int32Array|Uint32Array|Float64Array|BigInt64Array|BigUint64Array|DataView)$/;

function inConstructor(node: ts.Node): boolean {
  for (let n: ts.Node | undefined = node; n !== undefined; n = n.parent) {
    if (ts.isConstructorDeclaration(n) || ts.isPropertyDeclaration(n)) return true;
    // A closure made in a constructor runs later; a method is no constructor.
    if (ts.isMethodDeclaration(n) || ts.isFunctionDeclaration(n) || ts.isArrowFunction(n) || ts.isFunctionExpression(n)) return false;
    if (ts.isAccessor(n)) return false;
  }
  // Statements of a module run once, when it is loaded.
  return true;
}

/** Is this under an `if` that asks whether the registry records? */
function whereNothingIsRecorded(node: ts.Node): boolean {
  for (let n: ts.Node | undefined = node; n !== undefined; n = n.parent)
    if (ts.isIfStatement(n) && n.expression.getText().includes("recording")) return true;
  return false;
}

const pathOf = (file: ts.SourceFile): string => file.fileName.slice(file.fileName.indexOf("src/"));

/** `file owner.field` of each such write, sorted, once each. */
export function writesOutsideTheRegistry(): string[] {
  const config = ts.readConfigFile("tsconfig.json", (f) => ts.sys.readFile(f));
  const { options } = ts.parseJsonConfigFileContent(config.config, ts.sys, ".");
  const roots = ROOMS.flatMap((r) => ts.sys.readDirectory(`src/${r}`, [".ts"]));
  const program = ts.createProgram(roots, { ...options, noEmit: true });
  const checker = program.getTypeChecker();
  const found = new Set<string>();

  const typeName = (e: ts.Expression): string => checker.getTypeAtLocation(e).symbol?.name ?? "";

  /** The class or interface field, or the module's variable, that an expression reads; "" for a local of its own. */
  function place(e: ts.Expression): string {
    while (ts.isParenthesizedExpression(e) || ts.isNonNullExpression(e) || ts.isAsExpression(e)) e = e.expression;
    if (ts.isElementAccessExpression(e)) return place(e.expression);
    if (ts.isPropertyAccessExpression(e)) {
      const symbol = checker.getSymbolAtLocation(e.name);
      const declaration = symbol?.declarations?.[0];
      if (declaration === undefined) return "";
      const owner = declaration.parent;
      const file = declaration.getSourceFile().fileName;
      if (!/\bsrc\//.test(file)) return place(e.expression);
      const name =
        ts.isClassDeclaration(owner) || ts.isInterfaceDeclaration(owner)
          ? (owner.name?.text ?? "?")
          : ts.isConstructorDeclaration(owner)
            ? ((owner.parent as ts.ClassDeclaration).name?.text ?? "?")
            : "";
      if (name === "") return place(e.expression);
      return `${file.slice(file.indexOf("src/"))} ${name}.${e.name.text}`;
    }
    if (ts.isIdentifier(e)) {
      const declaration = checker.getSymbolAtLocation(e)?.declarations?.[0];
      if (declaration === undefined || !ts.isVariableDeclaration(declaration)) return "";
      if (ts.isSourceFile(declaration.parent.parent.parent)) {
        const file = declaration.getSourceFile().fileName;
        return `${file.slice(file.indexOf("src/"))} ${e.text}`;
      }
      // A local: what it stands for, if that is a place.
      const from = declaration.initializer;
      return from !== undefined && (ts.isPropertyAccessExpression(from) || ts.isIdentifier(from)) ? place(from) : "";
    }
    return "";
  }

  function write(target: ts.Expression): void {
    while (ts.isParenthesizedExpression(target) || ts.isNonNullExpression(target)) target = target.expression;
    if (inConstructor(target)) return;
    if (ts.isArrayLiteralExpression(target)) return target.elements.forEach(write);
    if (ts.isIdentifier(target)) {
      // A local variable itself is no state; a module's is.
      const declaration = checker.getSymbolAtLocation(target)?.declarations?.[0];
      if (declaration === undefined || !ts.isVariableDeclaration(declaration)) return;
      if (!ts.isVariableDeclarationList(declaration.parent) || !ts.isSourceFile(declaration.parent.parent.parent)) return;
    }
    const p = place(target);
    if (p === "") return;
    if (!/ [IF](32|64)Pool\.a$/.test(p)) found.add(p);
    // A pool's words are written past its `set` only where nothing is recorded.
    else if (!whereNothingIsRecorded(target)) found.add(`${pathOf(target.getSourceFile())} writes pool words`);
  }

  function visit(node: ts.Node): void {
    if (
      ts.isBinaryExpression(node) &&
      node.operatorToken.kind >= ts.SyntaxKind.FirstAssignment &&
      node.operatorToken.kind <= ts.SyntaxKind.LastAssignment
    )
      write(node.left);
    if (
      (ts.isPrefixUnaryExpression(node) || ts.isPostfixUnaryExpression(node)) &&
      (node.operator === ts.SyntaxKind.PlusPlusToken || node.operator === ts.SyntaxKind.MinusMinusToken)
    )
      write(node.operand);
    if (ts.isCallExpression(node) && ts.isPropertyAccessExpression(node.expression) && MUTATORS.has(node.expression.name.text)) {
      const on = node.expression.expression;
      const type = typeName(on);
      if (!POOLS.has(type) && COLLECTIONS.test(type) && !inConstructor(node)) {
        const p = place(on);
        if (p !== "") found.add(p);
      }
    }
    ts.forEachChild(node, visit);
  }
  for (const file of program.getSourceFiles())
    if (!file.isDeclarationFile && /\/?src\//.test(file.fileName) && !file.fileName.includes("node_modules")) visit(file);
  return [...found].sort();
}
