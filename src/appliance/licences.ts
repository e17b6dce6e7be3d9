/** Debian's short names of licences (copyright-format 1.0 §7.2) as SPDX identifiers; what is not here is left as it is. */
const SPDX: Readonly<Record<string, string>> = {
  "apache-2.0": "Apache-2.0",
  artistic: "Artistic-1.0-Perl",
  "artistic-2.0": "Artistic-2.0",
  "bsd-2-clause": "BSD-2-Clause",
  "bsd-3-clause": "BSD-3-Clause",
  "bsd-4-clause": "BSD-4-Clause",
  "bsl-1.0": "BSL-1.0",
  "bzip2-1.0.6": "bzip2-1.0.6",
  "cc0-1.0": "CC0-1.0",
  cc0: "CC0-1.0",
  curl: "curl",
  expat: "MIT",
  mit: "MIT",
  "gfdl-1.3": "GFDL-1.3-only",
  "gfdl-1.3+": "GFDL-1.3-or-later",
  "gpl-1": "GPL-1.0-only",
  "gpl-1+": "GPL-1.0-or-later",
  "gpl-2": "GPL-2.0-only",
  "gpl-2+": "GPL-2.0-or-later",
  "gpl-2.0": "GPL-2.0-only",
  "gpl-2.0+": "GPL-2.0-or-later",
  "gpl-3": "GPL-3.0-only",
  "gpl-3+": "GPL-3.0-or-later",
  "gpl-3.0+": "GPL-3.0-or-later",
  isc: "ISC",
  "lgpl-2": "LGPL-2.0-only",
  "lgpl-2+": "LGPL-2.0-or-later",
  "lgpl-2.1": "LGPL-2.1-only",
  "lgpl-2.1+": "LGPL-2.1-or-later",
  "lgpl-3": "LGPL-3.0-only",
  "lgpl-3+": "LGPL-3.0-or-later",
  "mpl-1.1": "MPL-1.1",
  "mpl-2.0": "MPL-2.0",
  openssl: "OpenSSL",
  zlib: "Zlib",
};

export type Licence = { readonly id: string } | { readonly name: string };

/** "GPL-2+ or Artistic" becomes two: what a file may be used under, and what another is, are listed alike. */
export function licencesOf(terms: readonly string[]): Licence[] {
  const words = new Set(
    terms.flatMap((term) =>
      term
        .split(/\s+(?:and|or|and\/or)\s+|,\s*|\|/i)
        .map((one) => one.trim())
        .filter((one) => one !== "" && one.length <= 64),
    ),
  );
  const found = [...words].map((one): Licence => {
    const id = SPDX[one.toLowerCase()];
    return id === undefined ? { name: one } : { id };
  });
  const text = (licence: Licence): string => ("id" in licence ? licence.id : licence.name);
  const byText = new Map(found.map((licence) => [text(licence), licence]));
  return [...byText.values()].sort((left, right) => (text(left) < text(right) ? -1 : 1));
}

/** grep's lines "package/copyright:License: GPL-2+", by package. Old copyright files are prose and have none. */
export function parseLicences(lines: string): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const line of lines.split("\n")) {
    const match = /^([^/]+)\/copyright:License:\s*(\S.*?)\s*$/.exec(line);
    if (match?.[1] === undefined || match[2] === undefined) continue;
    found.set(match[1], [...(found.get(match[1]) ?? []), match[2]]);
  }
  return found;
}
