package bootsettings

import "strings"

// Targets of the catalog that hold settings begin with this.
const prefix = "settings/"

// ImageName returns the name of the target with the settings of an image; with
// version "" those of all versions.
func ImageName(name, version string) string {
	if version == "" {
		return prefix + "images/" + name + ".json"
	}
	return prefix + "images/" + name + "/" + version + ".json"
}

// EntryName returns the name of the target with the settings of a menu entry.
func EntryName(id string) string { return prefix + "entries/" + id + ".json" }

// Names returns the targets that apply to a boot, the more general ones first.
// Not all of them need exist.
func Names(image, version, entry string) []string {
	return []string{ImageName(image, ""), ImageName(image, version), EntryName(entry)}
}

// Subject is what a document is about: an image (of one version, or of all),
// or an entry of the menu.
type Subject struct {
	Image   string `json:"image,omitempty"`
	Version string `json:"version,omitempty"`
	Entry   string `json:"entry,omitempty"`
}

// Name returns the name of the target.
func (s Subject) Name() string {
	if s.Entry != "" {
		return EntryName(s.Entry)
	}
	return ImageName(s.Image, s.Version)
}

// String returns a subject as people write it.
func (s Subject) String() string {
	switch {
	case s.Entry != "":
		return "entry " + s.Entry
	case s.Version != "":
		return "image " + s.Image + "/" + s.Version
	}
	return "image " + s.Image
}

// ParseName returns what a target of the catalog has settings of. ok is false
// if it is no target with settings.
func ParseName(target string) (s Subject, ok bool) {
	rest, ok := strings.CutPrefix(target, prefix)
	if !ok {
		return s, false
	}
	if rest, ok = strings.CutSuffix(rest, ".json"); !ok {
		return s, false
	}
	f := strings.Split(rest, "/")
	switch {
	case len(f) == 2 && f[0] == "entries":
		s.Entry = f[1]
	case len(f) == 2 && f[0] == "images":
		s.Image = f[1]
	case len(f) == 3 && f[0] == "images":
		s.Image, s.Version = f[1], f[2]
	default:
		return s, false
	}
	return s, true
}
