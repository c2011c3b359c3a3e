package container

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/inetboot/inetboot/imagetool/source"
)

// Names of files in layouts and archives.
const (
	layoutFile = "oci-layout"
	indexFile  = "index.json"
	dockerFile = "manifest.json" // of docker save
)

// Lookup finds an entry of a tree.
type Lookup interface {
	Lookup(p string) *source.Entry
}

// Is tells whether a tree, of a directory or of an archive, is that of a
// container image and not that of an operating system.
func Is(t Lookup) bool {
	for _, p := range []string{"etc", "usr", "bin", "sbin", "lib", "boot", "var", "dev"} {
		if t.Lookup(p) != nil {
			return false
		}
	}
	return t.Lookup(layoutFile) != nil && t.Lookup(indexFile) != nil || t.Lookup(dockerFile) != nil
}

// Read adds the image in files to b: the tree of an OCI layout, or of an
// archive that docker save or a tool for OCI archives made. files has to stay
// open as long as b and its tree. name is for messages.
func Read(ctx context.Context, b *source.Builder, files *source.Tree, name string, o source.Options) error {
	layers, err := open(files, o)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := merge(ctx, b, layers, o, newProgress(layers, o)); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func open(files *source.Tree, o source.Options) ([]layer, error) {
	// Newer archives of docker save are both; the OCI side has more digests.
	if files.Lookup(indexFile) != nil && files.Lookup(layoutFile) != nil {
		return openLayout(files, o)
	}
	if files.Lookup(dockerFile) != nil {
		return openDocker(files, o)
	}
	return nil, fmt.Errorf("%w: this is neither an OCI layout (%s and %s) nor a Docker archive (%s)", source.ErrUnreadable, layoutFile, indexFile, dockerFile)
}

func openLayout(files *source.Tree, o source.Options) ([]layer, error) {
	data, err := files.ReadFile(indexFile, maxManifest)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", source.ErrUnreadable, err)
	}
	ref := o.Ref
	for range maxIndexes {
		index, err := v1.ParseIndexManifest(bytes.NewReader(data))
		if err != nil {
			return nil, fmt.Errorf("%w: the index: %w", source.ErrUnreadable, err)
		}
		d, err := choose(index.Manifests, ref, arch(o))
		if err != nil {
			return nil, err
		}
		if data, err = readBlob(files, d.Digest, maxManifest); err != nil {
			return nil, err
		}
		if isIndex(d, data) {
			ref = "" // names stand in the layout's own index only
			continue
		}
		m, err := v1.ParseManifest(bytes.NewReader(data))
		if err != nil {
			return nil, fmt.Errorf("%w: the manifest: %w", source.ErrUnreadable, err)
		}
		raw, err := readBlob(files, m.Config.Digest, maxConfig)
		if err != nil {
			return nil, err
		}
		config, err := parseConfig(raw)
		if err != nil {
			return nil, err
		}
		return layersOf(m, config, func(d v1.Descriptor) (io.ReadCloser, error) {
			return openFile(files, "blobs/"+d.Digest.Algorithm+"/"+d.Digest.Hex)
		})
	}
	return nil, fmt.Errorf("%w: more than %d indexes lie in each other", source.ErrRefused, maxIndexes)
}

// isIndex tells whether a descriptor's blob is an index, by what the
// descriptor says, or, if it says nothing, by what is in it.
func isIndex(d v1.Descriptor, data []byte) bool {
	if d.MediaType != "" {
		return d.MediaType.IsIndex()
	}
	var both struct {
		Manifests []json.RawMessage `json:"manifests"`
		Layers    []json.RawMessage `json:"layers"`
	}
	return json.Unmarshal(data, &both) == nil && both.Manifests != nil && both.Layers == nil
}

// readBlob reads a blob of a layout and compares its digest.
func readBlob(files *source.Tree, h v1.Hash, limit int64) ([]byte, error) {
	if err := checkHash(h); err != nil {
		return nil, err
	}
	data, err := files.ReadFile("blobs/"+h.Algorithm+"/"+h.Hex, limit)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", source.ErrUnreadable, err)
	}
	sum := sha256.New()
	sum.Write(data)
	return data, checkDigest("the blob "+h.Hex, h.String(), sum)
}

// openFile opens a file of the layout or archive, which may be a link to
// another one there.
func openFile(files *source.Tree, p string) (io.ReadCloser, error) {
	e, err := files.Resolve(p)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", source.ErrUnreadable, err)
	}
	return files.Open(e)
}

// dockerImage is one entry of the list in a Docker archive.
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// openDocker opens an archive as docker save wrote it before version 25, and
// as other tools still do.
func openDocker(files *source.Tree, o source.Options) ([]layer, error) {
	data, err := files.ReadFile(dockerFile, maxManifest)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", source.ErrUnreadable, err)
	}
	var list []dockerImage
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", source.ErrUnreadable, dockerFile, err)
	}
	img, err := chooseDocker(list, o.Ref)
	if err != nil {
		return nil, err
	}
	raw, err := files.ReadFile(img.Config, maxConfig)
	if err != nil {
		return nil, fmt.Errorf("%w: the image's configuration: %w", source.ErrUnreadable, err)
	}
	config, err := parseConfig(raw)
	if err != nil {
		return nil, err
	}
	if len(config.RootFS.DiffIDs) != len(img.Layers) {
		return nil, fmt.Errorf("%w: %s has %d layers, the configuration %d", source.ErrUnreadable, dockerFile, len(img.Layers), len(config.RootFS.DiffIDs))
	}
	if o.Arch != "" && config.Architecture != "" && config.Architecture != o.Arch {
		return nil, fmt.Errorf("%w: the image is for %s, not for %s", source.ErrUnreadable, config.Architecture, o.Arch)
	}
	var out []layer
	for i, p := range img.Layers {
		if err := checkHash(config.RootFS.DiffIDs[i]); err != nil {
			return nil, err
		}
		e, err := files.Resolve(p)
		if err != nil {
			return nil, fmt.Errorf("%w: a layer: %w", source.ErrUnreadable, err)
		}
		out = append(out, layer{
			size: e.Size, diffID: config.RootFS.DiffIDs[i].String(),
			open: func() (io.ReadCloser, error) { return files.Open(e) },
		})
	}
	return out, nil
}

func chooseDocker(list []dockerImage, ref string) (*dockerImage, error) {
	if len(list) == 0 {
		return nil, fmt.Errorf("%w: there is no image in it", source.ErrUnreadable)
	}
	if ref == "" && len(list) == 1 {
		return &list[0], nil
	}
	var names []string
	for i, img := range list {
		for _, tag := range img.RepoTags {
			if ref != "" && (tag == ref || strings.HasSuffix(tag, "/"+ref) || strings.HasSuffix(tag, ":"+ref)) {
				return &list[i], nil
			}
			names = append(names, tag)
		}
	}
	if ref != "" {
		return nil, fmt.Errorf("%w: no image is called %q; there are %s", source.ErrUnreadable, ref, listOf(names))
	}
	return nil, fmt.Errorf("%w: there are several images: say which, as :NAME behind the path: %s", source.ErrUnreadable, listOf(names))
}
