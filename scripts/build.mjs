// Builds the project. `dev`: every source and test, one file each, into build/ (or $EXN_BUILD), for the tests.
// `ship`: the bundles of dist/ that are installed and pushed.
import { existsSync, readdirSync, rmSync, statSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
process.chdir(root);

function filesUnder(folder, ending) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true })
    .map((name) => join(folder, String(name)))
    .filter((path) => path.endsWith(ending) && statSync(path).isFile());
}

async function dev(outdir) {
  const entryPoints = [...filesUnder("src", ".ts"), ...filesUnder("test", ".ts")];
  const wanted = new Set(entryPoints.map((path) => path.replace(/\.ts$/, ".js")));
  for (const path of filesUnder(outdir, ".js")) if (!wanted.has(relative(outdir, path))) rmSync(path);
  await build({ entryPoints, outdir, outbase: ".", format: "esm", platform: "node", target: "node20", sourcemap: true });
}

const BUNDLES = [
  { entry: "src/main.ts", out: "dist/exitnode.js", minify: true },
];

async function ship() {
  rmSync("dist", { recursive: true, force: true });
  for (const { entry, out, minify } of BUNDLES) {
    await build({
      entryPoints: [entry],
      outfile: out,
      bundle: true,
      format: "esm",
      platform: "node",
      target: "node20",
      minify,
      keepNames: true,
      legalComments: "linked",
      external: ["koffi", "libsql", "cpu-features"],
      loader: { ".node": "empty" },
      banner: {
        js: "#!/usr/bin/env node\nimport { createRequire as exnRequire } from 'node:module';const require = exnRequire(import.meta.url);",
      },
    });
  }
}

const mode = process.argv[2] ?? "dev";
if (mode === "dev") await dev(process.env.EXN_BUILD ?? "build");
else if (mode === "ship") await ship();
else throw new Error(`expected dev or ship, got ${mode}`);
