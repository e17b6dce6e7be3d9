// Builds the project. `dev`: every source and test, one file each, into build/ (or $EXN_BUILD), for the tests.
// `ship`: the bundles of dist/ that are installed and pushed.
import { execFileSync, spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { packagesOf } from "./bundled.mjs";

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
  await build({
    entryPoints,
    outdir,
    outbase: ".",
    format: "esm",
    platform: "node",
    target: "node20",
    sourcemap: true,
  });
  compileAccelerator(join(outdir, "src/sys"));
}

// libsql looks for its native part in node_modules, which the coordinator's machine does not have: in a bundle with
// `besideLibsql` it is libsql.node in the bundle's own folder.
const libsqlBeside = {
  name: "libsql-beside",
  setup(plugin) {
    plugin.onResolve({ filter: /^@neon-rs\/load$/ }, () => ({ path: "libsql-beside", namespace: "libsql-beside" }));
    plugin.onLoad({ filter: /.*/, namespace: "libsql-beside" }, () => ({
      contents: "module.exports = { load: () => require('./libsql.node'), currentTarget: () => '' };",
      loader: "js",
    }));
    plugin.onResolve({ filter: /^\.\/libsql\.node$/ }, ({ path }) => ({ path, external: true }));
    plugin.onEnd(() => {
      const libc = process.report.getReport().header.glibcVersionRuntime === undefined ? "musl" : "gnu";
      copyFileSync(`node_modules/@libsql/linux-${process.arch}-${libc}/index.node`, "dist/libsql.node");
    });
  },
};

// Only proxmox-api's own engine asks for undici, and src/pve/engine.ts stands in its place.
const undiciLeftOut = {
  name: "undici-left-out",
  setup(plugin) {
    plugin.onResolve({ filter: /^undici$/ }, () => ({ path: "undici", namespace: "undici-left-out" }));
    plugin.onLoad({ filter: /.*/, namespace: "undici-left-out" }, () => ({ contents: "module.exports = {};" }));
  },
};

// src/sys/koffi.ts loads koffi's native part from beside the bundle, without koffi's own JavaScript.
function copyKoffi(folder) {
  const libc = process.report.getReport().header.glibcVersionRuntime === undefined ? "musl" : "linux";
  const native = `node_modules/@koromix/koffi-linux-${process.arch}/${libc}_${process.arch}/koffi.node`;
  copyFileSync(native, join(folder, "koffi.node"));
}

// Optional: without a C compiler there is no accelerator, and the engine says so.
function compileAccelerator(folder) {
  mkdirSync(folder, { recursive: true });
  const out = join(folder, "accelerator.so");
  const ran = spawnSync(
    "cc",
    ["-O3", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", out, "src/sys/accelerator.c"],
    {
      stdio: ["ignore", "inherit", "inherit"],
    },
  );
  if (ran.error?.code === "ENOENT") process.stderr.write("no C compiler (cc): built without the accelerator\n");
  else if (ran.status !== 0) throw new Error(`cc exited ${ran.status}`);
}

const BUNDLES = [
  // Split where a command's code is imported: a start reads what it runs, and not two megabytes. What is pushed to
  // other machines is one file each.
  { entry: "src/main.ts", name: "exitnode", splitting: true, keepNames: true, plugins: [undiciLeftOut] },
  // Naming every closure when it is made takes 256 bytes of each: 5 MB of a relay with a thousand devices, 2 of an agent.
  { entry: "src/agentmain.ts", name: "agent", splitting: false, keepNames: false, plugins: [] },
  // Its ASN.1 library goes by the names of classes.
  { entry: "src/coordinatormain.ts", name: "coordinator", splitting: false, keepNames: true, plugins: [libsqlBeside] },
  { entry: "src/relaymain.ts", name: "relay", splitting: false, keepNames: false, plugins: [] },
];

async function ship() {
  rmSync("dist", { recursive: true, force: true });
  mkdirSync("dist");
  copyKoffi("dist");
  compileAccelerator("dist");
  // The bundles are ES modules wherever they are copied to.
  writeFileSync("dist/package.json", `${JSON.stringify({ type: "module", private: true })}\n`);
  const bundled = {};
  for (const { entry, name, splitting, keepNames, plugins } of BUNDLES) {
    const besideLibsql = plugins.includes(libsqlBeside);
    const { metafile } = await build({
      metafile: true,
      entryPoints: { [name]: entry },
      outdir: "dist",
      splitting,
      chunkNames: `${name}-[hash]`,
      bundle: true,
      format: "esm",
      platform: "node",
      target: "node20",
      minify: true,
      keepNames,
      legalComments: "linked",
      external: ["koffi", "cpu-features", ...(besideLibsql ? [] : ["libsql"])],
      plugins,
      // libsql asks `@neon-rs/load` for its native part only when this is set.
      define: besideLibsql ? { "process.env.LIBSQL_JS_DEV": "'1'" } : {},
      loader: { ".node": "empty" },
      banner: {
        js: "#!/usr/bin/env node\nimport { createRequire as exnRequire } from 'node:module';const require = exnRequire(import.meta.url);const __dirname = import.meta.dirname;",
      },
    });
    bundled[`${name}.js`] = packagesOf(metafile);
  }
  const libc = process.report.getReport().header.glibcVersionRuntime === undefined ? "musl" : "gnu";
  bundled["koffi.node"] = packagesOf(undefined, [`node_modules/@koromix/koffi-linux-${process.arch}`]);
  bundled["libsql.node"] = packagesOf(undefined, [`node_modules/@libsql/linux-${process.arch}-${libc}`]);
  // Out of the same table of commands as `--help`.
  writeFileSync("dist/exitnode.1", execFileSync(process.execPath, ["dist/exitnode.js", "man"]));
  writeFileSync("dist/bundled.json", `${JSON.stringify(bundled, null, 1)}\n`);
}

const mode = process.argv[2] ?? "dev";
if (mode === "dev") await dev(process.env.EXN_BUILD ?? "build");
else if (mode === "ship") await ship();
else throw new Error(`expected dev or ship, got ${mode}`);
