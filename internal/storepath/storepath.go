// Package storepath knows where things lie in a store. Paths are relative to
// the store's base URL or folder, always with forward slashes.
//
//	catalog/timestamp.json             names the newest snapshot; the only file that is ever replaced
//	catalog/<version>.<role>.json      TUF 1.0 metadata: root, snapshot, targets and delegated roles
//	catalog/targets/<dir>/<sha256>.<base>   menu and manifests, named as in TUF 1.0 consistent snapshots
//	indexes/<sha256>                   one for each file of a root
//	blocks/<2 hex>/<sha256>            one zstd frame; the name is the hash of the plain bytes
//	files/<sha256>                     kernels, initrds, whole
//	packs/<sha256 of the manifest>     optional
//	marks/<name>.json                  what publishers are at: pushes and collections under way
package storepath

import (
	"path"
	"strconv"
	"strings"

	"github.com/inetboot/inetboot/internal/digest"
)

// Timestamp is the path of the metadata that names the newest snapshot.
const Timestamp = "catalog/timestamp.json"

// BaseHeader is the header of a request that stores versioned metadata on a
// server, with the ETag of the timestamp that the metadata was made from. The
// server takes it only while that is still the newest.
const BaseHeader = "Inetboot-Base"

// Versioned tells whether p is metadata with a version number in its name,
// which is written once and never replaced.
func Versioned(p string) bool {
	_, _, ok := ParseRoleMetadata(p)
	return ok
}

// RoleMetadata returns the path of a version of a role's metadata. The
// timestamp has no versions: it is at [Timestamp].
func RoleMetadata(role string, version int64) string {
	return "catalog/" + strconv.FormatInt(version, 10) + "." + role + ".json"
}

// ParseRoleMetadata is the reverse of RoleMetadata.
func ParseRoleMetadata(p string) (role string, version int64, ok bool) {
	name, found := strings.CutPrefix(p, "catalog/")
	name, found2 := strings.CutSuffix(name, ".json")
	number, role, found3 := strings.Cut(name, ".")
	version, err := strconv.ParseInt(number, 10, 64)
	if !found || !found2 || !found3 || err != nil || version < 1 || number[0] == '0' || number[0] == '+' ||
		!ValidElement(role) || role == "timestamp" {
		return "", 0, false
	}
	return role, version, true
}

// Block returns the path of the block whose plain bytes hash to d.
func Block(d digest.SHA256) string { s := d.String(); return "blocks/" + s[:2] + "/" + s }

// Index returns the path of an index.
func Index(d digest.SHA256) string { return "indexes/" + d.String() }

// File returns the path of a whole file: a kernel, an initrd.
func File(d digest.SHA256) string { return "files/" + d.String() }

// Pack returns the path of the boot pack of the manifest that hashes to d.
func Pack(d digest.SHA256) string { return "packs/" + d.String() }

// Mark returns the path of a mark with the given name.
func Mark(name string) string { return "marks/" + name + ".json" }

// Target returns the path of a catalog target, such as "menu.json" or
// "images/debian/12/amd64.json", whose bytes hash to d.
func Target(name string, d digest.SHA256) string {
	dir, base := path.Split(name)
	return "catalog/targets/" + dir + d.String() + "." + base
}

// Kind says what a path of the store holds.
type Kind string

// The kinds of files in a store.
const (
	KindMetadata Kind = "metadata" // catalog/timestamp.json and catalog/<version>.<role>.json
	KindTarget   Kind = "target"
	KindIndex    Kind = "index"
	KindBlock    Kind = "block"
	KindFile     Kind = "file"
	KindPack     Kind = "pack"
	KindMark     Kind = "mark"
)

// Immutable tells whether files of this kind are named by a hash and never
// change once they exist. Packs are hints that may be rebuilt; for metadata see
// [Versioned].
func (k Kind) Immutable() bool {
	return k == KindTarget || k == KindIndex || k == KindBlock || k == KindFile
}

// Replaceable tells whether files of this kind are written by
// compare-and-swap: who writes says which version was read before.
func (k Kind) Replaceable() bool { return k == KindMetadata || k == KindMark }

// MaxName bounds the length of a target's name, in bytes.
const MaxName = 240

// Parse tells what p holds and which hash its name promises. ok is false for
// every path that is not exactly of one of the forms above, so that a server
// which asks Parse first cannot be led outside of its store.
func Parse(p string) (kind Kind, sum digest.SHA256, ok bool) {
	if p == Timestamp {
		return KindMetadata, sum, true
	}
	if len(p) > MaxName+128 {
		return "", sum, false
	}
	if _, _, ok := ParseRoleMetadata(p); ok {
		return KindMetadata, sum, true
	}
	first, rest, _ := strings.Cut(p, "/")
	var err error
	switch first {
	case "blocks":
		two, name, found := strings.Cut(rest, "/")
		if sum, err = digest.Parse(name); err != nil || !found || two != name[:2] {
			return "", digest.SHA256{}, false
		}
		return KindBlock, sum, true
	case "indexes", "files", "packs":
		if sum, err = digest.Parse(rest); err != nil {
			return "", digest.SHA256{}, false
		}
		return map[string]Kind{"indexes": KindIndex, "files": KindFile, "packs": KindPack}[first], sum, true
	case "marks":
		if name, found := strings.CutSuffix(rest, ".json"); found && ValidElement(name) {
			return KindMark, sum, true
		}
		return "", sum, false
	case "catalog":
		name, found := strings.CutPrefix(rest, "targets/")
		if !found {
			return "", sum, false
		}
		dir, base := path.Split(name)
		hex, base, found := strings.Cut(base, ".")
		if !found || !ValidTarget(dir+base) {
			return "", sum, false
		}
		if sum, err = digest.Parse(hex); err != nil {
			return "", digest.SHA256{}, false
		}
		return KindTarget, sum, true
	}
	return "", sum, false
}

// ValidTarget tells whether name may name a target of a catalog: path
// elements of letters, digits and "._+~-" that do not begin with a dot.
func ValidTarget(name string) bool {
	if name == "" || len(name) > MaxName {
		return false
	}
	for el := range strings.SplitSeq(name, "/") {
		if !ValidElement(el) {
			return false
		}
	}
	return true
}

// ValidElement tells whether s may be one element of a target's name, which
// is also what names and versions of images must be.
func ValidElement(s string) bool {
	if s == "" || s[0] == '.' || s[0] == '-' || len(s) > 100 {
		return false
	}
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("._+~-", c) >= 0:
		default:
			return false
		}
	}
	return true
}

// Prefix returns the folder, with a slash at its end, that has all files of a
// kind. Metadata share theirs with the targets.
func (k Kind) Prefix() string {
	switch k {
	case KindBlock:
		return "blocks/"
	case KindIndex:
		return "indexes/"
	case KindFile:
		return "files/"
	case KindPack:
		return "packs/"
	case KindTarget:
		return "catalog/targets/"
	case KindMark:
		return "marks/"
	}
	return "catalog/"
}

// Compare orders paths as a walk through their folders does: element by
// element.
func Compare(a, b string) int {
	return strings.Compare(strings.ReplaceAll(a, "/", "\x00"), strings.ReplaceAll(b, "/", "\x00"))
}

// Lasting tells whether p is a file without which a store is none: the
// timestamp and the chain of roots.
func Lasting(p string) bool {
	role, _, _ := ParseRoleMetadata(p)
	return p == Timestamp || role == "root"
}
