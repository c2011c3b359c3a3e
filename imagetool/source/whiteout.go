package source

// Names in layers of container images that take away what is below (OCI image
// specification, "Image Layer Filesystem Changeset").
const (
	WhiteoutPrefix = ".wh."
	WhiteoutOpaque = ".wh..wh..opq"
)
