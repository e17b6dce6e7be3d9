// Which npm packages a bundle was made from: esbuild tells the files, package-lock.json the versions and licences.
import { readFileSync } from "node:fs";

export function packagesOf(metafile, extra = []) {
  const { packages } = JSON.parse(readFileSync("package-lock.json", "utf8"));
  const used = Object.values(metafile?.outputs ?? {}).flatMap(({ inputs }) =>
    Object.entries(inputs).flatMap(([path, { bytesInOutput }]) => (bytesInOutput > 0 ? [folderOf(path)] : [])),
  );
  const folders = new Set([...used, ...extra].filter((folder) => folder !== undefined));
  return [...folders]
    .map((folder) => {
      const locked = packages[folder];
      if (locked === undefined) throw new Error(`${folder} is not in package-lock.json`);
      const { version, license } = locked;
      return { name: folder.replace(/^.*node_modules\//, ""), version, ...(license === undefined ? {} : { license }) };
    })
    .sort((left, right) => (`${left.name}@${left.version}` < `${right.name}@${right.version}` ? -1 : 1));
}

// "node_modules/@scope/name/dist/x.js", or a package inside another's node_modules; wherever node_modules itself lies.
const folderOf = (path) => /^.*?(node_modules\/(?:.*node_modules\/)?(?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1];
