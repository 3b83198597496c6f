/*
 * siftmesh-extractor: the supervisor of the slots of one host; or, with --image, the
 * pipeline in this process alone.
 */
#include "extractor/extractor.h"
#include "extractor/offline.h"

int main(int argc, char **argv)
{
    if (extractor_offline_wanted(argc, argv))
        return extractor_offline_main(argc, argv);
    return service_main(&extractor_spec, argc, argv);
}
