package container

import (
	"fmt"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/inetboot/inetboot/imagetool/source"
)

// refName is the annotation with the name of an image in a layout (OCI image
// specification, "Pre-Defined Annotation Keys").
const refName = "org.opencontainers.image.ref.name"

// choose returns the image of an index that ref names and that is for an
// architecture. ref may be empty if that leaves no doubt.
func choose(list []v1.Descriptor, ref, arch string) (v1.Descriptor, error) {
	var names []string
	var named []v1.Descriptor
	for _, d := range list {
		if d.Annotations["vnd.docker.reference.type"] != "" {
			continue // what BuildKit attests about an image
		}
		name := d.Annotations[refName]
		if name == "" {
			name = d.Annotations["io.containerd.image.name"]
		}
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
		if ref == "" || name == ref || strings.HasSuffix(name, ":"+ref) {
			named = append(named, d)
		}
	}
	if len(named) == 0 {
		if ref == "" {
			return v1.Descriptor{}, fmt.Errorf("%w: there is no image in it", source.ErrUnreadable)
		}
		return v1.Descriptor{}, fmt.Errorf("%w: no image is called %q; there are %s", source.ErrUnreadable, ref, listOf(names))
	}
	if ref == "" && len(names) > 1 {
		return v1.Descriptor{}, fmt.Errorf("%w: there are several images: say which, as :NAME behind the path: %s", source.ErrUnreadable, listOf(names))
	}
	var fits []v1.Descriptor
	var platforms []string
	for _, d := range named {
		if d.Platform == nil || d.Platform.OS == "linux" && d.Platform.Architecture == arch {
			fits = append(fits, d)
		}
		if d.Platform != nil {
			platforms = append(platforms, d.Platform.String())
		}
	}
	if len(fits) == 0 {
		return v1.Descriptor{}, fmt.Errorf("%w: there is no image for linux/%s; there are images for %s: choose with --arch", source.ErrUnreadable, arch, listOf(platforms))
	}
	// Variants of one architecture stand in the order of the publisher; an
	// image that says what it is for goes before one that does not.
	for _, d := range fits {
		if d.Platform != nil {
			return d, nil
		}
	}
	if len(fits) > 1 && slices.ContainsFunc(fits, func(d v1.Descriptor) bool { return d.Digest != fits[0].Digest }) {
		return v1.Descriptor{}, fmt.Errorf("%w: there are several images without names", source.ErrUnreadable)
	}
	return fits[0], nil
}

func listOf(names []string) string {
	if len(names) == 0 {
		return "none with a name"
	}
	const most = 20
	if len(names) > most {
		names = append(slices.Clone(names[:most]), "…")
	}
	return strings.Join(names, ", ")
}
