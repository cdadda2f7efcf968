import tseslint from "typescript-eslint";

export default tseslint.config(
  { ignores: ["dist/", "coverage/", "api-docs/", "editors/vscode/out/", "node_modules/"] },
  ...tseslint.configs.recommended,
  {
    files: ["**/*.ts"],
    rules: {
      "@typescript-eslint/no-explicit-any": "error",
      // Typed arrays under noUncheckedIndexedAccess need it on hot paths.
      "@typescript-eslint/no-non-null-assertion": "off",
    },
  },
  { files: ["src/**/*.ts"], ignores: ["src/cli.ts", "src/cli/**"], rules: { "no-console": "error" } },
);
