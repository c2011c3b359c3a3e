package catalog

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
	"github.com/inetboot/inetboot/internal/strictjson"
)

// ManifestFormat is the value of a Manifest's "format".
const ManifestFormat = "inetboot-manifest/1"

// maxArtefact bounds a kernel or an initrd, in bytes.
const maxArtefact = 4 << 30

// maxDrivers bounds the drivers that a manifest names.
const maxDrivers = 256

// Features that a manifest, or a menu's entry, may require.
const (
	// FeatureNoRoot is required by an image of a kernel, and perhaps an initrd,
	// alone: an installer or a tool. It gets no handoff, and nothing is
	// appended to its initrd.
	FeatureNoRoot = "no-root"
	// FeatureHypervisor is required by an image that a hypervisor starts.
	FeatureHypervisor = "hypervisor"
	// FeatureKexecLoad is required by an image whose kernel has to lie below
	// 4 GiB, as its header says: kexec_file_load of Linux does not take it, and
	// kexec_load does.
	FeatureKexecLoad = "kexec-load"
)

// Features lists the features of images and entries that this version knows.
// That it knows them does not mean that every program can start such images.
func Features() []string {
	return []string{FeatureNoRoot, FeatureHypervisor, FeatureKexecLoad, FeatureInclude}
}

// Manifest says what an image consists of.
type Manifest struct {
	Format   string      `json:"format"`
	Requires []string    `json:"requires,omitempty"`
	Name     string      `json:"name"`
	Version  string      `json:"version"`
	Arch     string      `json:"arch"` // as GOARCH: amd64, arm64
	Created  time.Time   `json:"created"`
	Kernel   Kernel      `json:"kernel"`
	Initrd   digest.Blob `json:"initrd,omitzero"` // zero: none, with FeatureNoRoot only
	Cmdline  string      `json:"cmdline,omitempty"`
	Root     Root        `json:"root,omitzero"` // zero with FeatureNoRoot
	Needs    Needs       `json:"needs"`

	// MissingDrivers names network drivers of boot media that the kernel does
	// not have: over their adapters the image cannot be booted.
	MissingDrivers []string `json:"missing_drivers,omitempty"`

	// Hypervisor starts before the kernel; with FeatureHypervisor.
	Hypervisor *Hypervisor `json:"hypervisor,omitempty"`
}

// Hypervisor is a program that starts by the Multiboot protocol, with the
// image's kernel and initrd as its first modules.
type Hypervisor struct {
	digest.Blob
	Cmdline string   `json:"cmdline,omitempty"`
	Modules []Module `json:"modules,omitempty"` // behind kernel and initrd
}

// Module is a further module of a hypervisor, such as a security policy or
// microcode, under files/ in the store.
type Module struct {
	digest.Blob
	Cmdline string `json:"cmdline,omitempty"`
}

// maxModules bounds the further modules of a hypervisor.
const maxModules = 16

// Files returns the kernel, the initrd and what a hypervisor adds: all that
// lies under files/ in the store.
func (m *Manifest) Files() []digest.Blob {
	out := []digest.Blob{m.Kernel.Blob}
	if m.Initrd.Size > 0 {
		out = append(out, m.Initrd)
	}
	if h := m.Hypervisor; h != nil {
		out = append(out, h.Blob)
		for _, x := range h.Modules {
			out = append(out, x.Blob)
		}
	}
	return out
}

// NoRoot tells whether the image is a kernel, and perhaps an initrd, alone.
func (m *Manifest) NoRoot() bool { return slices.Contains(m.Requires, FeatureNoRoot) }

// Kernel is a kernel file, under files/ in the store.
type Kernel struct {
	digest.Blob
	Release string `json:"release"` // as uname -r
}

// Root is what the target mounts.
type Root struct {
	Type  string     `json:"type"` // "erofs" with the files meta and data; or the filesystem of the one file
	Files []RootFile `json:"files"`
}

// RootFile is one file of a root.
type RootFile struct {
	Name   string      `json:"name"`
	Size   int64       `json:"size"`   // plain bytes
	Stored int64       `json:"stored"` // bytes of all different blocks as stored
	Blocks int         `json:"blocks"` // different blocks that are stored
	Index  digest.Blob `json:"index"`
}

// Needs is what a machine must have.
type Needs struct {
	Memory int64 `json:"memory"` // bytes; kernel, unpacked initrd and room to run
}

// ManifestName returns the target name of an image's manifest.
func ManifestName(name, version, arch string) string {
	return "images/" + name + "/" + version + "/" + arch + ".json"
}

// ParseManifest reads and checks a manifest. Who boots uses [Catalog.Image].
func ParseManifest(data []byte) (*Manifest, error) {
	var m Manifest
	if err := strictjson.Unmarshal(data, MaxTarget, &m); err != nil {
		return nil, fmt.Errorf("the manifest is %w: %w", ErrFormat, err)
	}
	if err := m.Check(); err != nil {
		return nil, err
	}
	return &m, nil
}

// Marshal checks m and returns it as a file.
func (m *Manifest) Marshal() ([]byte, error) {
	if err := m.Check(); err != nil {
		return nil, err
	}
	return json.MarshalIndent(m, "", " ")
}

// Check returns an error that wraps ErrFormat if m is not a manifest.
func (m *Manifest) Check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("the manifest of %s %s is %w: %w", m.Name, m.Version, ErrFormat, fmt.Errorf(format, args...))
	}
	if m.Format != ManifestFormat {
		return bad("format is %q, want %q", m.Format, ManifestFormat)
	}
	if err := strictjson.Requires("the image", m.Requires, Features()); err != nil {
		return err
	}
	for _, s := range []string{m.Name, m.Version, m.Arch} {
		if !storepath.ValidElement(s) {
			return bad("%q in name, version or arch: use letters, digits and ._+~-", s)
		}
	}
	if err := printable(m.Cmdline, 2000); err != nil {
		return bad("command line: %w", err)
	}
	for n, f := range m.Files() {
		if f.Size <= 0 || f.Size > maxArtefact || f.SHA256.IsZero() {
			return bad("file %d, of %d bytes, or without a hash", n+1, f.Size)
		}
	}
	if err := m.checkHypervisor(); err != nil {
		return bad("%w", err)
	}
	switch {
	case m.Initrd.Size < 0:
		return bad("initrd of %d bytes", m.Initrd.Size)
	case m.NoRoot():
		if m.Root.Type != "" || len(m.Root.Files) > 0 {
			return bad("it requires %s and has a root", FeatureNoRoot)
		}
	case m.Initrd.Size == 0:
		return bad("initrd of %d bytes", m.Initrd.Size)
	case m.Root.Type == "" || len(m.Root.Files) == 0 || len(m.Root.Files) > 16:
		return bad("root of type %q with %d files", m.Root.Type, len(m.Root.Files))
	}
	for _, f := range m.Root.Files {
		if !storepath.ValidElement(f.Name) || f.Size <= 0 || f.Stored < 0 || f.Blocks < 0 || f.Index.Size <= 0 || f.Index.SHA256.IsZero() {
			return bad("root file %q has no size or index", f.Name)
		}
	}
	if m.Needs.Memory < 0 {
		return bad("needs %d bytes of memory", m.Needs.Memory)
	}
	if len(m.MissingDrivers) > maxDrivers {
		return bad("%d missing drivers, at most %d are allowed", len(m.MissingDrivers), maxDrivers)
	}
	for _, d := range m.MissingDrivers {
		if !storepath.ValidElement(d) {
			return bad("missing driver %q", d)
		}
	}
	return nil
}

func (m *Manifest) checkHypervisor() error {
	h := m.Hypervisor
	if (h != nil) != slices.Contains(m.Requires, FeatureHypervisor) {
		return fmt.Errorf("a hypervisor has to be there and required as %q, or neither", FeatureHypervisor)
	}
	if h == nil {
		return nil
	}
	if len(h.Modules) > maxModules {
		return fmt.Errorf("a hypervisor with %d modules, at most %d are allowed", len(h.Modules), maxModules)
	}
	if err := printable(h.Cmdline, 2000); err != nil {
		return fmt.Errorf("command line of the hypervisor: %w", err)
	}
	for _, x := range h.Modules {
		if err := printable(x.Cmdline, 2000); err != nil {
			return fmt.Errorf("command line of a module: %w", err)
		}
	}
	return nil
}

// Image is a manifest that the catalog vouches for, or a person.
type Image struct {
	m    Manifest
	hash digest.SHA256
}

// Manifest returns a copy of the image's manifest.
func (i *Image) Manifest() Manifest { return i.m }

// Digest returns the hash of the manifest, which is the image's identity.
func (i *Image) Digest() digest.SHA256 { return i.hash }

// UnlistedImage returns the image of a manifest that no catalog vouches for.
// Who calls it has compared the bytes with a digest that a person gave, or
// asks one before anything is started.
func UnlistedImage(data []byte) (*Image, error) {
	m, err := ParseManifest(data)
	if err != nil {
		return nil, err
	}
	return &Image{m: *m, hash: digest.Of(data)}, nil
}
